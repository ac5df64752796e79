"""What may be asked of the weights of live versions, and how a wrong question is answered."""

from collections.abc import Mapping
from typing import Any

from deploy.events import Event, Live, State
from deploy.phases import find
from deploy.release import Release


class TrafficError(ValueError):
    """A change that cannot be; nothing was changed. The message names field, value and fix."""


class NotLiveError(TrafficError):
    """The version is not live there."""


class NothingToRollBackToError(TrafficError):
    """The ledger knows no healthy version to return to."""


def whole_weights(weights: Mapping[str, Any]) -> dict[str, int]:
    """Label → percent; TrafficError unless they are whole numbers of 0 to 100 that sum to 100."""
    if not weights:
        raise TrafficError("weights: none given; name live versions with percent, as 1=90 2=10")
    for label, weight in weights.items():
        number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not number or not 0 <= weight <= 100 or weight % 1:  # NaN is in no range
            raise TrafficError(
                f"weight of version {label}: {weight!r} must be a whole number of 0 to 100"
            )
    whole = {label: int(weight) for label, weight in weights.items()}
    if (total := sum(whole.values())) != 100:
        given = ", ".join(f"{label}={weight}" for label, weight in whole.items())
        raise TrafficError(f"weights must sum to 100, these sum to {total}: {given}")
    return whole


def weights_of(state: State) -> str:
    """For people."""
    return ", ".join(f"{live.label}={live.weight}" for live in state.live) or "nothing"


def require_live(state: State, label: str) -> Live:
    """The live version of that label; NotLiveError says which ones are live."""
    live = find(state.live, label)
    if live is None:
        raise NotLiveError(
            f"version {label}: not live in {state.environment}; live there of {state.model}: "
            f"{weights_of(state)}; load it first"
        )
    return live


def require_room_beside(state: State, release: Release) -> None:
    """Raise where the release cannot be loaded: beside nothing, or beside another build of it."""
    label, where = release.live().label, f"{release.model} version {release.live().label}"
    if not state.live:
        raise NotLiveError(
            f"nothing of {release.model} is live in {state.environment}, so there is nothing to "
            f"load version {label} beside: promote it instead"
        )
    beside = find(state.live, label)
    if beside is not None and beside.bento_digest != release.bundle.digest:
        raise TrafficError(
            f"another build of {where} is live in {state.environment} ({beside.bento}): promote "
            "this one instead, or retire that one"
        )


def require_idle(state: State, label: str, last: Event | None) -> Live:
    """The live version of that label, which has no traffic and no part in a release."""
    live = require_live(state, label)
    phase = last.phase if last else None
    if live.weight:
        raise TrafficError(
            f"version {label}: it has {live.weight} % of the traffic of {state.model} in "
            f"{state.environment}; give that to another version first ({weights_of(state)})"
        )
    stable = phase.stable.label if phase is not None and phase.stable is not None else None
    if phase is not None and label in {phase.candidate, stable}:
        raise TrafficError(
            f"version {label}: it has a part in the release of version {phase.candidate} "
            f"({phase.name}) that is in progress: wait for it, or `slipway rollback {state.model}`"
        )
    return live
