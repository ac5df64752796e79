"""`/v1/metrics/{version}`: how one live version does."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from bentos.model_server.problems import Problem, clean
from deploy.analysis.window import percentile
from deploy.control.bodies import LABEL, label
from deploy.control.control import Controls
from deploy.control.documents import VersionMetrics
from deploy.control.observer import Observation
from deploy.control.openapi import answers
from deploy.control.replies import reply
from deploy.control.routes.split import Scopes, state_of
from deploy.control.usage import Usage
from deploy.events import Live, State
from deploy.gateway.routes import cluster_name
from deploy.phases import find
from deploy.targets.base import TargetError

router = APIRouter(tags=["models"])
_Version = Annotated[str, Path(pattern=LABEL, examples=["v2"])]


@router.get(
    "/metrics/{version}", responses=answers(VersionMetrics, "The last minute or so.", 404, 422)
)
def read_metrics(version: _Version, scope: Scopes, control: Controls) -> Response:
    """Rates, percentiles, predictions, CPU and memory of a live version; takes half a second."""
    state = state_of(scope, control)
    live = _live(state, label(version))
    name = cluster_name(state.environment, state.model, live)
    observation = control.observer.observation(name)
    if observation is None or observation.failure is not None:
        why = observation.failure if observation else "it came live just now; ask again"
        raise TargetError(f"{name} has not been observed: {why}")
    return reply(metrics(state, live, observation, control.usage(name)))


def _live(state: State, wanted: str) -> Live:
    if (live := find(state.live, wanted)) is not None:
        return live
    labels = ", ".join(f"v{live.label}" for live in state.live) or "none"
    detail = f"v{clean(wanted, 40)} of {state.model} is not live in {state.environment}"
    raise Problem(HTTPStatus.NOT_FOUND, "not-live", f"{detail}; live: {labels}")


def metrics(state: State, live: Live, seen: Observation, used: Usage) -> VersionMetrics:
    """What was counted, as rates."""
    recent = seen.recent
    p50, p95, p99 = (percentile(recent.durations, share) for share in (0.5, 0.95, 0.99))
    return VersionMetrics(
        model=state.model,
        environment=state.environment,
        version=f"v{live.label}",
        seconds=round(seen.seconds, 3),
        requests=recent.requests,
        requests_per_second=_share(recent.requests, seen.seconds),
        error_rate=_share(recent.errors, recent.requests),
        refusal_rate=_share(recent.refusals, recent.requests),
        p50_ms=_milliseconds(p50),
        p95_ms=_milliseconds(p95),
        p99_ms=_milliseconds(p99),
        predictions=_shares(recent.predictions),
        confidences=_shares(recent.confidences),
        values=_shares(recent.values),
        cpu_cores=used.cpu_cores,
        memory_bytes=used.memory_bytes,
    )


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 6) if whole else None


def _shares(counts: Mapping[str, int]) -> dict[str, float]:
    whole = sum(counts.values())
    return {name: round(count / whole, 6) for name, count in counts.items()} if whole else {}


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 3)
