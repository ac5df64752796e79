"""Whether a Deployment has become what was asked for, judged by what the cluster says of it.

A status is believed only where it is of the generation that was applied: one of the generation
before says that all is well while nothing has happened yet.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from deploy.manifests.names import Json
from deploy.targets.missing_secrets import missing_secret

# Reasons for which a container waits, and which no waiting makes better.
_NO_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_NO_START = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"},
)
_MEMORY_SETTING = "kubernetes.resources.memory_limit of the environment"


@dataclass(frozen=True)
class Words:
    """Whose last words belong into the sentence: a container's, of the run that ended."""

    pod: Json
    container: str


@dataclass(frozen=True)
class Judgement:
    """waiting: it may come; failed: it will not by itself. reason: one sentence, without the
    object's name. words: whose log says why."""

    state: Literal["ready", "waiting", "failed"]
    reason: str = ""
    words: Words | None = None


READY = Judgement("ready")


def judge(
    deployment: Json, replica_sets: Iterable[Json], pods: Sequence[Json], minimum: int = 1
) -> Judgement:
    """One look. replica_sets, pods: those of the Deployment, of all its revisions. minimum: of its
    pods, by the autoscaler, which may not have come to it yet."""
    spec, status = deployment["spec"], deployment.get("status", {})
    generation, observed = deployment["metadata"]["generation"], status.get("observedGeneration", 0)
    if observed < generation:
        return Judgement(
            "waiting", f"the cluster has seen generation {observed}, not yet {generation}"
        )
    wanted = max(spec.get("replicas", 1), minimum)
    updated, available = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    if updated == wanted == status.get("replicas", 0) and available >= wanted:
        return READY
    counts = f"{updated} of {wanted} pods are updated, {available} are available"
    current = _current(deployment, replica_sets)
    mine = [pod for pod in pods if not _is_going(pod) and _is_of(pod, current)]
    found = list(_troubles(deployment, current, mine))
    failed = next((item for item in found if item.state == "failed"), None)
    if failed is not None:
        return failed
    return found[0] if found else Judgement("waiting", counts)


def _troubles(
    deployment: Json, current: Sequence[Json], pods: Sequence[Json]
) -> Iterator[Judgement]:
    """The most telling first."""
    for pod in pods:
        yield from pod_troubles(pod)
    for replica_set in current:
        if failure := _condition(replica_set, "ReplicaFailure", "True"):
            yield _replica_failure(failure)
    for pod in pods:
        if _condition(pod, "PodScheduled", "False"):
            yield _unscheduled(pod)
    progressing = _condition(deployment, "Progressing", "False")
    if progressing and progressing.get("reason") == "ProgressDeadlineExceeded":
        seconds = deployment["spec"].get("progressDeadlineSeconds", 600)
        yield Judgement("failed", f"it made no progress for {seconds} s{_unready(pods)}")


def _current(deployment: Json, replica_sets: Iterable[Json]) -> list[Json]:
    """The ReplicaSets of the newest revision; one may be of a template that is gone."""
    uid = deployment["metadata"].get("uid")
    mine = [item for item in replica_sets if _owner(item) == uid]
    newest = max(map(_revision, mine), default=0)
    return [item for item in mine if _revision(item) == newest]


def _revision(replica_set: Json) -> int:
    notes = replica_set["metadata"].get("annotations", {})
    return int(notes.get("deployment.kubernetes.io/revision", 0))


def _owner(item: Json) -> str | None:
    owners = item["metadata"].get("ownerReferences", ())
    return next((owner["uid"] for owner in owners if owner.get("controller")), None)


def _is_of(pod: Json, replica_sets: Sequence[Json]) -> bool:
    return _owner(pod) in {item["metadata"].get("uid") for item in replica_sets}


def _is_going(item: Json) -> bool:
    return "deletionTimestamp" in item["metadata"]


def _condition(item: Json, kind: str, status: str) -> Json | None:
    conditions: Iterable[Json] = item.get("status", {}).get("conditions", ())
    return next(
        (each for each in conditions if (each["type"], each["status"]) == (kind, status)), None
    )


def pod_troubles(pod: Json) -> Iterator[Judgement]:
    """What keeps a pod from getting ready, as far as its status says."""
    status = pod.get("status", {})
    if status.get("reason") == "Evicted":
        said = status.get("message", "")
        yield Judgement("waiting", f"pod {_name(pod)} was evicted: {said}")
    for container in status.get("initContainerStatuses", ()):
        yield from _of_container(pod, container, "init container")
    for container in status.get("containerStatuses", ()):
        yield from _of_container(pod, container, "container")


def _of_container(pod: Json, status: Json, what: str) -> Iterator[Judgement]:
    name, waiting = status["name"], status.get("state", {}).get("waiting") or {}
    reason = waiting.get("reason", "")
    ended = _ended(status)
    where = f"{what} {name} of pod {_name(pod)}"
    if reason in _NO_IMAGE:
        said = waiting.get("message") or reason
        yield Judgement(
            "failed",
            f"the image {status.get('image', '')} cannot be pulled ({reason}: {said}): "
            "see kubernetes.image and kubernetes.image_pull_secret",
        )
    elif reason in _NO_START:
        said = waiting.get("message", "")
        why = missing_secret(pod, name, said) or said
        yield Judgement("failed", f"{where} cannot start ({reason}): {why}")
    elif ended is not None and ended.get("reason") == "OOMKilled":
        limit = _memory_limit(pod, name)
        yield Judgement(
            "failed",
            f"{where} was killed for memory (OOMKilled) at its limit {limit}: raise "
            f"{_MEMORY_SETTING}",
            Words(pod, name),
        )
    elif ended is not None and (reason == "CrashLoopBackOff" or what != "container"):
        ends = "crashes again and again" if reason == "CrashLoopBackOff" else "failed"
        code = ended.get("exitCode")
        yield Judgement("failed", f"{where} {ends} (exit code {code})", Words(pod, name))
    elif ended is not None:  # once: it may come up at the second attempt
        code = ended.get("exitCode")
        yield Judgement("waiting", f"{where} ended with exit code {code}", Words(pod, name))


def _ended(status: Json) -> Json | None:
    """How the container's last run ended, where it did not end well."""
    for state in (status.get("state", {}), status.get("lastState", {})):
        ended: Json | None = state.get("terminated")
        if ended is not None and (ended.get("exitCode") or ended.get("reason") == "OOMKilled"):
            return None if status.get("ready") else ended
    return None


def _memory_limit(pod: Json, container: str) -> str:
    spec = pod.get("spec", {})
    for item in (*spec.get("containers", ()), *spec.get("initContainers", ())):
        if item["name"] == container:
            return str(item.get("resources", {}).get("limits", {}).get("memory", "(none)"))
    return "(unknown)"


def _replica_failure(condition: Json) -> Judgement:
    said = str(condition.get("message") or condition.get("reason", ""))
    if "exceeded quota" in said:
        fix = "raise the namespace's ResourceQuota, or lower kubernetes.replicas or resources"
        return Judgement("failed", f"the namespace's quota allows no more pods: {said}: {fix}")
    return Judgement("failed", f"its pods cannot be created: {said}")


def _unscheduled(pod: Json) -> Judgement:
    """A node may come, where the cluster adds them by itself."""
    said = (_condition(pod, "PodScheduled", "False") or {}).get("message", "no node takes it")
    return Judgement(
        "waiting",
        f"pod {_name(pod)} finds no node ({said}): add nodes, or lower kubernetes.resources",
    )


def _unready(pods: Sequence[Json]) -> str:
    names = [_name(pod) for pod in pods if not _condition(pod, "Ready", "True")]
    return f": {', '.join(names)} not ready" if names else ""


def _name(pod: Json) -> str:
    return str(pod["metadata"]["name"])
