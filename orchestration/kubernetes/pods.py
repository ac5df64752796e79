"""Heavy steps in pods of their own, by dagster-k8s's PipesK8sClient."""

import json
import os
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import dagster as dg

from deploy.cluster.client import Cluster
from deploy.cluster.connection import connect
from deploy.manifests import dagster as pods
from deploy.manifests.names import Json
from deploy.targets.base import TargetError
from orchestration.kubernetes.last_words import has_begun, why
from orchestration.steps.base import Elsewhere, Name, Step
from serving_config.schema import Configuration

# Of a step, by the name of its resources in `kubernetes.dagster.steps`.
RESOURCES: dict[Name, str] = {
    "export": "onnx_model",
    "verify": "conversion_parity",
    "batch": "batch_predictions",
}
ID_LABEL = "slipway.dev/step-id"
_POLL_SECONDS = 2.0
_LINES = 20


class InPods(Elsewhere):
    """Each in a pod with the step's resources, which has no rights on the cluster and does not know
    Dagster's storage. A pod is deleted when it has ended, and when its run has."""

    def __init__(
        self, configuration: Configuration, variables: Mapping[str, str] = os.environ
    ) -> None:
        self._configuration, self._variables = configuration, variables

    def launch(
        self, context: dg.OpExecutionContext, step: Step[Any], command: list[str]
    ) -> dg.PipesClientCompletedInvocation:
        """See Elsewhere."""
        from dagster_k8s.client import DagsterK8sError
        from kubernetes.client.exceptions import ApiException

        from orchestration.kubernetes.client import PodClient

        settings, mark = self._configuration.platform.kubernetes, uuid.uuid4().hex
        cluster = Cluster(connect(settings), settings.request_timeout_seconds)
        try:
            client = PodClient(
                lambda: self._await_start(cluster, mark), _POLL_SECONDS, settings.context
            )
            return client.run(
                context=context,
                extras=dict(step.extras),
                namespace=settings.namespace,
                base_pod_meta=self.metadata(mark),
                base_pod_spec=self.spec(step.name, command),
                pod_wait_timeout=self._seconds(step.name),
                # Its last words are read first.
                delete_pod_on_completion=False,
            )
        except (DagsterK8sError, ApiException, TargetError) as error:
            raise dg.Failure(self._why(cluster, step, mark, error), allow_retries=False) from error
        finally:
            with suppress(TargetError):  # its run's pod takes it along
                for pod in self._found(cluster, mark):
                    cluster.delete(_complete(pod))

    def metadata(self, mark: str) -> Json:
        """Of the pod. mark: what it is found by; its name is dagster-k8s's to choose."""
        found = {"labels": pods.labels("dagster-step") | {ID_LABEL: mark}}
        name, uid = (self._variables.get(key) for key in ("POD_NAME", "POD_UID"))
        if not name or not uid:  # this is no pod
            return found
        owner = {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}
        return found | {"ownerReferences": [owner]}

    def spec(self, name: Name, command: list[str]) -> Json:
        """Of the pod that runs one step."""
        settings = self._configuration.platform.kubernetes.dagster
        keys = pods.OF_BATCH if name == "batch" else pods.OF_STEP
        asked = settings.steps.of(RESOURCES[name])
        container = {
            "name": name,
            "image": settings.image,
            "imagePullPolicy": "IfNotPresent",
            "command": [*pods.ENTRY, "python", *command],
            # What it wrote last is kept with its status where it wrote no message.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            **pods.container(keys, asked, self._variables),
        }
        return {
            **pods.pod(self._configuration, pods.PLAIN),
            "restartPolicy": "Never",
            "activeDeadlineSeconds": int(self._seconds(name)),
            "containers": [container],
        }

    def _seconds(self, name: Name) -> float:
        settings = self._configuration.platform.kubernetes.dagster
        return settings.batch_timeout_seconds if name == "batch" else settings.step_timeout_seconds

    def _await_start(self, cluster: Cluster, mark: str) -> None:
        seconds = self._configuration.platform.kubernetes.dagster.start_timeout_seconds
        deadline = time.monotonic() + seconds
        while not any(map(has_begun, self._found(cluster, mark))):
            if time.monotonic() > deadline:
                raise TargetError(f"the pod has not begun within {seconds:g} s")
            time.sleep(_POLL_SECONDS)

    def _found(self, cluster: Cluster, mark: str) -> list[Json]:
        namespace = self._configuration.platform.kubernetes.namespace
        return cluster.list("Pod", namespace, {ID_LABEL: mark})

    def _why(self, cluster: Cluster, step: Step[Any], mark: str, error: Exception) -> str:
        setting = f"kubernetes.dagster.steps.{RESOURCES[step.name]}"
        try:
            found = self._found(cluster, mark)
            if found:
                with suppress(TargetError):
                    said = cluster.logs(found[0], step.name, _LINES)
                    return f"{step}: {why(found[0], said, setting)}"
                return f"{step}: {why(found[0], '', setting)}"
        except TargetError as silent:
            return f"{step}: {silent}"
        return f"{step}: its pod could not be started: {_reason(error)}"


def _reason(error: Exception) -> str:
    """Of the API server's refusal its words; of others the first line."""
    body = getattr(error, "body", None)
    if body:
        with suppress(ValueError, AttributeError):
            return str(json.loads(body)["message"])
    return str(error).partition("\n")[0]


def _complete(pod: Json) -> Json:
    """Items of a list come without their kind."""
    return {"apiVersion": "v1", "kind": "Pod"} | pod
