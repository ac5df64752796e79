"""Rollback: all traffic back to the version that was healthy before, without building anything."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deploy.changes import carry_out, head, leftovers, ready_server
from deploy.events import Actor, Event, Live, Phase, State
from deploy.gateway.routes import cluster_name
from deploy.history import last_healthy
from deploy.ledger import Ledger
from deploy.phases import find, without
from deploy.release import Release
from deploy.targets.base import Target
from deploy.weights import NothingToRollBackToError, weights_of


@dataclass(frozen=True)
class Rollback:
    """One rollback, as it was asked for at generation `first`. See `deploy.traffic.Traffic`."""

    ledger: Ledger
    target: Target
    releases: Callable[[Live], Release]
    environment: str
    model: str
    actor: Actor
    reason: str
    evidence: Mapping[str, Any]
    expected: int | None
    first: int

    def __call__(self) -> Event:
        """From the state as it is now; of two rollbacks at once one is done."""
        state, last = head(self.ledger, self.environment, self.model, self.expected)
        done = last is not None and last.action == "rollback"
        if (
            last is not None
            and done
            and (state.generation > self.first or is_open(self.ledger, self.target, state))
        ):
            self.target.route()
            return last
        goal = self._goal(state, last).with_share(100)
        leaving = _leaving(state, last.phase if last else None, goal)
        labels = [item.label for item in leaving]
        live = (goal, *without(state.live, goal.label, *labels))
        evidence = {"reason": self.reason, "from": labels} | dict(self.evidence)
        change = self.actor.change(state, "rollback", goal, live, evidence)
        if self._is_up(state, goal):
            return carry_out(self.ledger, self.target, change)
        release = self.releases(goal)
        _require_proof(release, self.environment)
        with ready_server(self.ledger, self.target, release, self.environment):
            return carry_out(self.ledger, self.target, change)

    def _is_up(self, state: State, goal: Live) -> bool:
        """Whether a server of that very Bento is resident and ready."""
        resident = find(state.live, goal.label)
        if resident is None or resident.bento_digest != goal.bento_digest:
            return False
        return self.target.ready(cluster_name(self.environment, self.model, goal))

    def _goal(self, state: State, last: Event | None) -> Live:
        """The version to return to."""
        phase = last.phase if last else None
        if phase is not None and phase.stable is not None:
            return phase.stable
        events = self.ledger.events(state.model, state.environment)
        # Read once more: by now there may be later ones.
        goal = last_healthy([item for item in events if item.generation <= state.generation])
        if goal is None:
            raise NothingToRollBackToError(
                f"{state.model} has no version in {state.environment} to roll back to: the ledger "
                f"knows none that was healthy before what serves now ({weights_of(state)})"
            )
        return goal


def _require_proof(release: Release, environment: str) -> None:
    """What a release needs. Of a version that was built again since, the certificate has the smoke
    test of the later build: this one had passed its own before the ledger took it."""
    certificate, bundle = release.certificate, release.bundle
    if certificate.http is not None and certificate.http.bento_digest != bundle.digest:
        certificate.require_parity(bundle.contract, bundle.onnx_sha256)
    else:
        release.require_certificate(environment)


def is_open(ledger: Ledger, target: Target, state: State) -> bool:
    """Whether the rollback that led to the state is not over, or was killed before its end."""
    return not target.in_step() or bool(leftovers(ledger, target, state.environment, state.model))


def _leaving(state: State, phase: Phase | None, goal: Live) -> list[Live]:
    """What is rolled back from: all that has or sees traffic, and a release's candidate."""
    candidate = phase.candidate if phase else None
    return [
        live
        for live in state.live
        if live.bento_digest != goal.bento_digest
        and (live.weight or live.mirror or live.label == candidate)
    ]
