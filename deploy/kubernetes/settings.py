"""serving_config/ on a cluster: the same files, as ConfigMaps that every part mounts
(deploy/manifests/dagster.py has the mounts).

Their names have no suffix by content: Dagster's runs name them too, in a file that Kustomize does
not read. A fingerprint in the pods' annotations makes changed settings a rollout instead.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from deploy.manifests.names import Json
from serving_config.schema import Configuration

# ConfigMap → its folder below serving_config/, and the only files of it.
SETTINGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "slipway-platform": ("", ("platform.yaml", "features.yaml")),
    "slipway-environments": ("environments", ()),
    "slipway-models": ("models", ()),
}


@dataclass(frozen=True)
class Source:
    """What the tree is made from: the settings, and the folder that has their files."""

    configuration: Configuration
    folder: Path

    @classmethod
    def on_cluster(cls, configuration: Configuration, folder: Path) -> "Source":
        """Environments that the files have on this machine are on the cluster here."""
        environments = {
            name: one.model_copy(update={"target": "kubernetes"}) if one.target == "local" else one
            for name, one in configuration.environments.items()
        }
        return cls(configuration.model_copy(update={"environments": environments}), folder)

    @property
    def namespace(self) -> str:
        """Of the platform's own parts."""
        return self.configuration.platform.kubernetes.namespace

    @cached_property
    def files(self) -> dict[str, list[str]]:
        """ConfigMap → its files, relative to the folder."""
        return {
            name: [
                path.relative_to(self.folder).as_posix()
                for path in sorted((self.folder / below).glob("*.yaml"))
                if not only or path.name in only
            ]
            for name, (below, only) in SETTINGS.items()
        }

    @cached_property
    def fingerprint(self) -> str:
        """Of all those files."""
        digest = hashlib.sha256()
        for files in self.files.values():
            for name in files:
                digest.update(f"{name}\n".encode() + (self.folder / name).read_bytes())
        return digest.hexdigest()[:16]

    def kustomization(self) -> Json:
        """Of that folder: Kustomize reads no file outside of the one it stands in."""
        return {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": self.namespace,
            "generatorOptions": {"disableNameSuffixHash": True},
            "configMapGenerator": [
                {"name": name, "files": files} for name, files in self.files.items() if files
            ],
        }
