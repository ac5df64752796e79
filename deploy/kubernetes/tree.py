"""The Kustomize tree: base, one overlay for each environment, components. Text by path."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from deploy.kubernetes import access, cronjobs, extras, gateways, monitors, network, workload
from deploy.kubernetes.parts import CODE, DAEMON, IMAGE, IMAGE_VARIABLE, parts
from deploy.kubernetes.settings import Source
from deploy.manifests.environment import environment_objects
from deploy.manifests.names import Json
from serving_config.schema import Environment

FOLDER = Path(__file__).parent
HEADER = "# Written by `python -m deploy.kubernetes` from the settings. See docs/kubernetes.md.\n"
Files = dict[Path, Any]
# Component → its objects, and what it adds to the Role in the environment's namespace.
COMPONENTS: dict[str, tuple[Callable[[Source], list[Json]], Sequence[access.Rule]]] = {
    "gateway-api": (gateways.gateway_api, access.TRAFFIC["gateway-api"]),
    "istio": (gateways.istio, access.TRAFFIC["istio"]),
    "nginx": (lambda _: [], access.TRAFFIC["nginx"]),
    "kserve": (lambda _: [], access.KSERVE),
    "keda": (extras.keda, ()),
    "kuberay": (extras.kuberay, ()),
    "monitoring": (monitors.monitoring, ()),
    "cronjobs": (cronjobs.cronjobs, ()),
}
# Dagster's runs have the image of the parts, whatever `images` made of it.
_SAME_IMAGE: Json = {
    "source": {
        "kind": "Deployment",
        "name": CODE,
        "fieldPath": f"spec.template.spec.containers.[name={CODE}].image",
    },
    "targets": [
        {
            "select": {"kind": "Deployment", "name": name},
            "fieldPaths": [
                f"spec.template.spec.containers.[name={name}].env.[name={IMAGE_VARIABLE}].value"
            ],
        }
        for name in (CODE, DAEMON)
    ],
}


def tree(source: Source, folder: Path, images: Sequence[Json] = ()) -> dict[Path, str]:
    """Absolute path → text: all below `folder`, and one file beside the settings.

    images: entries of Kustomize's `images`, into each overlay."""
    found = {source.folder / "kustomization.yaml": source.kustomization()}
    found |= _base(source, folder / "base")
    for environment in source.configuration.environments.values():
        found |= _overlay(source, environment, folder / "overlays" / environment.name, images)
    for name, (made, rules) in COMPONENTS.items():
        found |= _component(name, made(source), rules, folder / "components" / name)
    return {path: HEADER + _yaml(content) for path, content in found.items()}


def _base(source: Source, folder: Path) -> Files:
    made = {part.name: workload.part_objects(source, part) for part in parts(source.configuration)}
    objects = {
        "namespace": [access.platform_namespace(source)],
        "access": [*access.accounts(source), *access.in_platform(source)],
        "network": network.policies(source),
        **made,
    }
    # Its own folder is not below this one: Kustomize takes files from there by its kustomization.
    settings = os.path.relpath(source.folder, folder)
    return _with_objects(folder, objects, {"resources": [settings]})


def _overlay(
    source: Source, environment: Environment, folder: Path, images: Sequence[Json]
) -> Files:
    traffic = source.configuration.platform.kubernetes.traffic
    components = [traffic, *(["kserve"] if environment.target == "kserve" else [])]
    objects = {
        "environment": [
            *environment_objects(source.configuration, environment.name),
            *access.in_environment(source, environment),
            *(gateways.istio_in(environment) if traffic == "istio" else []),
        ]
    }
    more: Json = {
        "resources": ["../../base"],
        "components": [f"../../components/{name}" for name in components],
        "images": list(images),
        "replacements": [_SAME_IMAGE],
    }
    return _with_objects(folder, objects, more)


def _component(name: str, objects: list[Json], rules: Sequence[access.Rule], folder: Path) -> Files:
    patches = [_more_rules(rules)] if rules else []
    made = {name: objects} if objects else {}
    return _with_objects(folder, made, {"patches": patches}, kind="Component")


def _more_rules(rules: Sequence[access.Rule]) -> Json:
    """A patch of the Role by which the platform deploys, in whichever namespaces are rendered."""
    patch = [{"op": "add", "path": "/rules/-", "value": access.rule(*each)} for each in rules]
    target = {"kind": "Role", "name": access.ROLE}
    return {"target": target, "patch": yaml.safe_dump(patch, sort_keys=False)}


def _with_objects(
    folder: Path, objects: dict[str, list[Json]], more: Json, kind: str = "Kustomization"
) -> Files:
    """One file for each of `objects`, and the kustomization that names them."""
    version = "v1alpha1" if kind == "Component" else "v1beta1"
    more["resources"] = [*more.get("resources", []), *(f"{name}.yaml" for name in objects)]
    kustomization = {
        "apiVersion": f"kustomize.config.k8s.io/{version}",
        "kind": kind,
        **{name: value for name, value in more.items() if value},
    }
    files: Files = {folder / f"{name}.yaml": content for name, content in objects.items()}
    return files | {folder / "kustomization.yaml": kustomization}


def images(registry: str, tag: str) -> list[Json]:
    """Kustomize's `images`: where the image of the platform's parts comes from."""
    changed = {"newName": f"{registry.rstrip('/')}/{IMAGE}"} if registry else {}
    changed |= {"newTag": tag} if tag else {}
    return [{"name": IMAGE} | changed] if changed else []


def write(source: Source, folder: Path, chosen: Sequence[Json] = ()) -> None:
    """Write the tree; chosen: as `images` of `tree`."""
    for path, text in tree(source, folder, chosen).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


class _Dumper(yaml.SafeDumper):
    """Without anchors, which YAML has for what stands twice: each object is to be read alone."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _yaml(content: Any) -> str:
    documents = content if isinstance(content, list) else [content]
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=100)
