"""Whether an InferenceService has become what was asked for, by KServe's own conditions."""

from collections.abc import Iterable

from deploy.manifests.names import Json
from deploy.targets.waiting import READY, Judgement, pod_troubles

_CONDITIONS = ("PredictorReady", "Ready")


def judge_service(service: Json, pods: Iterable[Json]) -> Judgement:
    """One look. pods: of the revision that comes."""
    generation = service["metadata"]["generation"]
    status = service.get("status", {})
    observed = status.get("observedGeneration", 0)
    if observed < generation:
        return Judgement("waiting", f"KServe has seen generation {observed}, not yet {generation}")
    predictor = status.get("components", {}).get("predictor", {})
    created = predictor.get("latestCreatedRevision")
    conditions = {item["type"]: item for item in status.get("conditions", ())}
    unmet = [kind for kind in _CONDITIONS if conditions.get(kind, {}).get("status") != "True"]
    # Ready by the revision before: the one that comes is not counted yet.
    if not unmet and created == predictor.get("latestReadyRevision"):
        return READY
    found = [trouble for pod in pods for trouble in pod_troubles(pod)]
    failed = [trouble for trouble in found if trouble.state == "failed"]
    if failed or found:
        return (failed or found)[0]
    if not unmet:
        return Judgement("waiting", f"revision {created} is not ready yet")
    said = conditions.get(unmet[0], {})
    why = f" ({said.get('reason')}): {said.get('message', '')}" if "reason" in said else ""
    return Judgement("waiting", f"{unmet[0]} is not true yet{why}")
