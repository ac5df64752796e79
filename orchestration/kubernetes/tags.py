"""`dagster-k8s/config` of jobs and assets, from the settings."""

from dataclasses import dataclass
from typing import Any, Literal

from deploy.manifests.dagster import (
    DEPLOYER,
    KEYS_MOUNT,
    KEYS_VOLUME,
    PLAIN,
    identity,
    resources,
)
from serving_config.schema import Configuration

TAG = "dagster-k8s/config"
# Steps whose work a pod of its own does: they wait for it.
WAITING = frozenset({"onnx_model", "conversion_parity"})
# Steps that start pods, or change environments, or ask what is live in them.
_PRIVILEGED = WAITING | {
    *("staging_deployment", "smoke_test"),
    *("production_deployment", "release_health"),
}

Job = Literal["lifecycle", "rollback", "batch", "training", "features"]
# Runs that wait for pods. They start them, as may every run that is not said to be plain.
_WAITING_JOBS: frozenset[Job] = frozenset({"lifecycle", "batch"})
# Runs in which a user's own code is executed: it has no rights on the cluster.
_PLAIN_JOBS: frozenset[Job] = frozenset({"training", "features"})


@dataclass(frozen=True)
class PodTags:
    """A step without tags has `steps.other`, and no rights; a run that much, and those of Slipway.

    configuration: None for no tags at all.
    """

    configuration: Configuration | None

    def step(self, name: str) -> dict[str, Any]:
        """Of an asset's or a check's op. name: without the model's."""
        asked = "waiting" if name in WAITING else name
        return self._tags(asked, DEPLOYER if name in _PRIVILEGED else PLAIN)

    def run(self, job: Job) -> dict[str, Any]:
        """Of a job's runs."""
        asked = "waiting" if job in _WAITING_JOBS else job
        return self._tags(asked, PLAIN if job in _PLAIN_JOBS else DEPLOYER)

    def _tags(self, asked: str, account: str) -> dict[str, Any]:
        return {} if self.configuration is None else {TAG: pod(self.configuration, asked, account)}


def pod(configuration: Configuration, asked: str, account: str) -> dict[str, Any]:
    """What dagster-k8s merges into a pod that the launcher's configuration describes, which has no
    keys: to its lists more can be added, but nothing be taken from them."""
    settings = configuration.platform.kubernetes.dagster
    container: dict[str, Any] = {"resources": resources(settings.steps.of(asked))}
    spec: dict[str, Any] = identity(account)
    if account == DEPLOYER:
        container["volumeMounts"], spec["volumes"] = [KEYS_MOUNT], [KEYS_VOLUME]
    return {"container_config": container, "pod_spec_config": spec}


# Runs are processes here: nothing to say about pods.
LOCAL = PodTags(None)


def pod_tags(configuration: Configuration) -> PodTags:
    """As the settings have it."""
    on_cluster = configuration.platform.kubernetes.dagster.runs == "kubernetes"
    return PodTags(configuration) if on_cluster else LOCAL
