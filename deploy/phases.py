"""A release's phases: which live versions each one has, and the events that begin them.

Pure but for the counters that a phase begins with.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from bentos.model_server.contract import VARIANTS
from deploy.events import Action, Actor, Change, Counters, Event, Live, Phase, State
from deploy.gateway.routes import cluster_name
from deploy.targets.base import Target
from serving_config.release import ReleasePolicy

replace = msgspec.structs.replace


def find(live: tuple[Live, ...], label: str) -> Live | None:
    """The live version of that label."""
    return next((item for item in live if item.label == label), None)


def without(live: tuple[Live, ...], *labels: str | None) -> tuple[Live, ...]:
    """The live versions but those of these labels."""
    return tuple(item for item in live if item.label not in labels)


def stable_beside(live: tuple[Live, ...], label: str) -> Live | None:
    """The version that the one called `label` is to replace: the one with most traffic, and the
    newest of those, as it was trained; None where no other has any."""
    others = [item for item in without(live, label) if item.weight > 0]
    return max(
        others,
        key=lambda item: (item.weight, item.version, item.variant == VARIANTS[0]),
        default=None,
    )


def began(phase: Phase, event: Event) -> str:
    """When the phase that goes on at `event` began: UTC, ISO 8601."""
    return phase.since or event.at


def policy_of(phase: Phase) -> ReleasePolicy:
    """The policy as it was when the release began."""
    return ReleasePolicy.model_validate(phase.policy)


def share(phase: Phase) -> int:
    """Percent of the traffic that the candidate has in the phase, or that is copied to it."""
    policy = policy_of(phase)
    if phase.name == "shadow":
        return policy.shadow.share if policy.shadow else 0
    return policy.steps[phase.step] if phase.name == "canary" else 100


def following(phase: Phase) -> Phase | None:
    """The phase after this one, still without a baseline; None after the bake time."""
    policy = policy_of(phase)
    if phase.name == "shadow":
        return replace(phase, name="canary", step=0, since=None)
    if phase.name == "canary" and phase.step + 1 < len(policy.steps):
        return replace(phase, step=phase.step + 1, since=None)
    if phase.name == "canary":
        return replace(phase, name="bake", step=0, since=None)
    return None


def live_in(phase: Phase, live: tuple[Live, ...]) -> tuple[Live, ...]:
    """Who has which share in the phase. Others stay resident, until the candidate has it all."""
    candidate, stable = find(live, phase.candidate), phase.stable
    if candidate is None or stable is None:
        raise ValueError(f"a {phase.name} needs version {phase.candidate} beside a stable one")
    percent = share(phase)
    if phase.name == "bake":
        return candidate.with_share(100), stable.with_share(0)
    weight, mirror = (0, percent) if phase.name == "shadow" else (percent, 0)
    return (
        candidate.with_share(weight, mirror),
        stable.with_share(100 - weight),
        *(item.with_share(0) for item in without(live, candidate.label, stable.label)),
    )


def baseline(target: Target, state: State, *lives: Live) -> dict[str, Counters]:
    """What these versions' servers have counted until now, by label."""
    return {
        live.label: target.observe(cluster_name(state.environment, state.model, live))
        for live in lives
    }


def proof(live: Live) -> dict[str, Any]:
    """The evidence of every event that makes a version live."""
    return {"bento": live.bento, "certificate_sha256": live.certificate_sha256}


def begin(
    phase: Phase,
    state: State,
    target: Target,
    actor: Actor,
    evidence: Mapping[str, Any],
    action: Action | None = None,
) -> Change:
    """The change that begins a phase of the release in that state. With a bake time of
    0 seconds the candidate gets everything and the release is over."""
    live = live_in(phase, state.live)
    bakes = phase.name != "bake" or policy_of(phase).bake_seconds > 0
    if bakes:
        counted = baseline(target, state, *live[:2])
        added = {"phase": msgspec.to_builtins(replace(phase, baseline=counted))}
    else:
        live, added = live[:1], {}
    default: Action = "promote" if phase.name == "bake" else phase.name
    said = proof(live[0]) | dict(evidence) | added
    return actor.change(state, action or default, live[0], live, said)
