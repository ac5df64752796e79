"""Why a step's pod did not end well, in one sentence. Pure functions of what the cluster says."""

from collections.abc import Iterator

from deploy.manifests.names import Json

_LONGEST = 500


def has_begun(pod: Json) -> bool:
    """Whether there is something to follow, be it that it cannot be started."""
    return any(container.get("state") for container in _containers(pod.get("status", {})))


def why(pod: Json, log: str, setting: str) -> str:
    """log: its last lines. setting: where its resources stand in platform.yaml."""
    status = pod.get("status", {})
    name = f"pod {pod['metadata']['name']}"
    if status.get("reason") == "DeadlineExceeded":
        seconds = pod["spec"].get("activeDeadlineSeconds")
        return f"{name} was ended after {seconds} s: see the timeouts in kubernetes.dagster"
    if status.get("reason") == "Evicted":
        return f"{name} was evicted: {status.get('message', '')}"
    for container in _containers(status):
        state = container.get("state") or {}
        if ended := state.get("terminated"):
            if ended.get("reason") == "OOMKilled":
                limit = pod["spec"]["containers"][0]["resources"]["limits"]["memory"]
                return f"{name} was killed for memory at its limit {limit}: raise {setting}"
            said = _last(log) or _last(ended.get("message") or "") or "it said nothing"
            return f"{name} ended with exit code {ended.get('exitCode')}: {said}"
        if waiting := state.get("waiting"):
            said = waiting.get("message") or "no more is known"
            return f"{name} cannot start ({waiting.get('reason')}): {said}"
    for condition in status.get("conditions") or ():
        if (condition["type"], condition["status"]) == ("PodScheduled", "False"):
            said = condition.get("message") or "no node takes it"
            return f"{name} finds no node ({said}): add nodes, or lower {setting}"
    return f"{name} was not done in time ({status.get('phase', 'unknown')})"


def _containers(status: Json) -> Iterator[Json]:
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def _last(text: str) -> str:
    """The last line that says something; messages of Dagster Pipes are none."""
    lines = [line.strip() for line in text.splitlines()]
    said = [line for line in lines if line and not line.startswith('{"__dagster_pipes_version"')]
    return said[-1][:_LONGEST] if said else ""
