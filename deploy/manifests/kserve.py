"""The same pods as a KServe InferenceService: one for each environment and model.

KServe knows revisions of one spec, not versions side by side: the one before, and the one that
comes, with a share of the traffic (https://kserve.github.io/website, "Canary Rollout"). It does so
in its serverless mode alone, on Knative, whose `config-features` have to allow what the pods use:
kubernetes.podspec-init-containers, kubernetes.podspec-volumes-emptydir and, with a claim for the
prediction log, kubernetes.podspec-persistent-volume-claim and -write.
"""

import math

from deploy.events import Live, State
from deploy.manifests.names import PORT, Json, labels, namespace, object_name
from deploy.manifests.workload import annotations, pod_spec
from serving_config.schema import Configuration

# Called `Knative` from KServe 0.16 on, which still takes the old name; older ones take no other.
_MODE = {"serving.kserve.io/deploymentMode": "Serverless"}
# `latest-` and `prev-` in front of the host: a candidate can be asked before it has any traffic.
_TAGS = {"serving.kserve.io/enable-tag-routing": "true"}
_NAME = "kserve-container"  # KServe looks for it
_SCRATCH = "/scratch"  # Knative lets nobody mount /tmp
# What Knative refuses, or sets by itself.
_NOT_IN_POD = {"securityContext"}
_NOT_IN_CONTAINER = {"lifecycle", "startupProbe"}


class NotForKServeError(ValueError):
    """A state that KServe cannot express; the message says why and what to do."""


def inference_service(
    configuration: Configuration,
    environment: str,
    model: str,
    state: State,
    candidate: str | None = None,
) -> list[Json]:
    """The InferenceService of what is live; none where nothing is.

    candidate: the label of the version that comes, where two are live; the newer one where it is
    left out. The other one is the revision that KServe holds already: it is not in the object.
    Of a version that has all traffic, an older one without any is not kept loaded.

    `cpu_percent` does not count here: Knative's autoscaler goes by requests in flight.
    """
    if not state.live:
        return []
    coming = _coming(model, environment, state, candidate)
    settings = configuration.environments[environment]
    replicas = settings.kubernetes.replicas
    predictor: Json = {
        "minReplicas": replicas.minimum,
        "maxReplicas": replicas.maximum,
        "timeout": math.ceil(configuration.platform.gateway.limits.response_timeout_seconds),
        "labels": labels(environment, model, coming),
        "annotations": {
            "serving.knative.dev/progress-deadline": f"{math.ceil(settings.ready_timeout_seconds)}s"
        },
        **_knative(pod_spec(configuration, environment, model, coming)),
    }
    if len(state.live) > 1 and coming.weight < 100:
        predictor["canaryTrafficPercent"] = coming.weight
    return [
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {
                "name": object_name(model),
                "namespace": namespace(settings),
                "labels": labels(environment, model),
                "annotations": annotations(coming) | _MODE | _TAGS,
            },
            "spec": {"predictor": predictor},
        }
    ]


def _coming(model: str, environment: str, state: State, candidate: str | None) -> Live:
    """The version that the object describes."""
    advice = f"use `target: kubernetes` in environments/{environment}.yaml"
    if mirrored := [live for live in state.live if live.mirror > 0]:
        raise NotForKServeError(
            f"{model} version {mirrored[0].label} gets copied requests in {environment}, which "
            f"KServe cannot send: leave `shadow` out of the release policy, or {advice}"
        )
    if len(state.live) > 2:
        listed = ", ".join(live.label for live in state.live)
        raise NotForKServeError(
            f"{model} versions {listed} are live in {environment}; KServe serves two at most, one "
            f"of them on its way: retire one, or {advice}"
        )
    if candidate is None:
        return max(state.live)
    found = [live for live in state.live if live.label == candidate]
    if not found:
        raise NotForKServeError(f"{model} version {candidate} is not live in {environment}")
    return found[0]


def _knative(pod: Json) -> Json:
    """The pod as Knative takes it."""
    containers = [_container(container) for container in pod["containers"]]
    port = {"containerPort": PORT, "protocol": "TCP"}
    containers[0] |= {"name": _NAME, "ports": [port]}
    containers[0]["env"].append({"name": "PROTOCOL", "value": "v2"})
    spec = {key: value for key, value in pod.items() if key not in _NOT_IN_POD}
    if "initContainers" in pod:
        spec["initContainers"] = [_container(container) for container in pod["initContainers"]]
    return spec | {"containers": containers}


def _container(container: Json) -> Json:
    """Without PORT, which Knative sets, and with _SCRATCH for /tmp."""
    moved = {"HOME": _SCRATCH, "TMPDIR": _SCRATCH, "BENTOML_HOME": f"{_SCRATCH}/bentoml"}
    kept = [item for item in container["env"] if item["name"] not in {"PORT", *moved}]
    named = [{"name": name, "value": value} for name, value in moved.items()]
    mounts = [
        mount | {"mountPath": _SCRATCH} if mount["name"] == "tmp" else mount
        for mount in container["volumeMounts"]
    ]
    taken = {key: value for key, value in container.items() if key not in _NOT_IN_CONTAINER}
    return taken | {"env": [*kept, *named], "volumeMounts": mounts}
