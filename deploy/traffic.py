"""What serves, changed by hand or by the controller: split, load, retire, roll back.

Every change is one compare-and-swap on the ledger, then the gateway follows. Where the ledger
cannot be written nothing changes; where the gateway does not follow, the change is taken back on
the record. After a kill in between, the same call again, or the controller, ends it.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from deploy.changes import (
    bring_up,
    carry_out,
    continued,
    ensure_server,
    head,
    leftovers,
    tidy,
)
from deploy.events import Action, Change, Event, LedgerConflictError, Live, Phase, State
from deploy.gateway.routes import cluster_name
from deploy.history import last_healthy
from deploy.ledger import Ledger
from deploy.phases import find, proof
from deploy.release import Release
from deploy.targets.base import Target
from deploy.weights import (
    NothingToRollBackToError,
    NotLiveError,
    TrafficError,
    require_live,
    require_room_beside,
    weights_of,
    whole_weights,
)

__all__ = ["Actor", "NotLiveError", "NothingToRollBackToError", "Traffic", "TrafficError"]


# A state that moves that often has somebody else at work.
_ATTEMPTS = 4


@dataclass(frozen=True)
class Actor:
    """Who changes something, as the ledger will say; dagster_run where one does."""

    name: str
    dagster_run: str | None = None


@dataclass(frozen=True)
class Traffic:
    """Changes of one ledger and its target. `expected`: the generation that the caller has seen;
    LedgerConflictError where it is another one. Raises LedgerError, GatewayError, TargetError too.

    releases: the release that a live version was, read back from its Bento; ReleaseError where
    that is gone or was changed.
    """

    ledger: Ledger
    target: Target
    releases: Callable[[Live], Release]

    def split(
        self,
        environment: str,
        model: str,
        weights: Mapping[str, Any],
        actor: Actor,
        expected: int | None = None,
    ) -> Event:
        """Give live versions other weights: label (`3`, `3-int8`) → percent, together 100.

        A live version that is not named gets 0 and stays resident. Ends a release in progress.
        """
        state, last = self._read(environment, model, expected)
        wanted = whole_weights(weights)
        for label in wanted:
            require_live(state, label)
        live = tuple(_with_weight(item, wanted.get(item.label, 0)) for item in state.live)
        self._require_ready(state, live)
        if last is not None and live == state.live and last.phase is None:
            self.target.route()  # whoever split before may have been killed before that
            return last
        first = max(live, key=lambda item: (item.weight, item.version))
        evidence = {"weights": wanted}
        return self._carry_out(state, "split", first, live, actor, evidence)

    def load(
        self, release: Release, environment: str, actor: Actor, expected: int | None = None
    ) -> Event:
        """Bring up a verified version beside the live ones, without traffic. The event is the last
        one where it is live already. A release in progress goes on."""
        release.require_certificate(environment)
        state, _ = self._read(environment, release.model, expected)
        require_room_beside(state, release)
        name = cluster_name(environment, release.model, release.live())
        try:
            with self.target.hold(name):  # started once, however often the ledger moves
                ensure_server(self.target, release, environment)
                return _patiently(
                    expected, lambda: self._load(release, environment, actor, expected)
                )
        except BaseException:
            self.target.stop(name)
            raise

    def _load(
        self, release: Release, environment: str, actor: Actor, expected: int | None
    ) -> Event:
        state, last = self._read(environment, release.model, expected)
        subject = release.live(weight=0)
        require_room_beside(state, release)
        if last is not None and find(state.live, subject.label) is not None:
            self.target.route()
            return last
        evidence = proof(subject) | continued(last)
        live = (subject, *state.live)
        change = _change(state, "load", subject, live, actor, evidence)
        return carry_out(self.ledger, self.target, change)

    def retire(
        self, environment: str, model: str, label: str, actor: Actor, expected: int | None = None
    ) -> Event:
        """Let a version without traffic go: drain and stop its server."""
        event = _patiently(
            expected, lambda: self._retire(environment, model, label, actor, expected)
        )
        self.tidy(environment, model)
        return event

    def _retire(
        self, environment: str, model: str, label: str, actor: Actor, expected: int | None
    ) -> Event:
        state, last = self._read(environment, model, expected)
        if last is not None and (last.action, last.label) == ("retire", label):
            self.target.route()
            return last  # again, after a kill in between
        subject = _require_idle(state, label, last)
        live = tuple(item for item in state.live if item.label != label)
        return self._carry_out(state, "retire", subject, live, actor, continued(last))

    def rollback(
        self,
        environment: str,
        model: str,
        actor: Actor,
        reason: str,
        expected: int | None = None,
        evidence: Mapping[str, Any] | None = None,
    ) -> Event:
        """All traffic back to the last healthy version (`deploy.history.last_healthy`).

        From a release in progress, to its stable version. A resident version has it at once; for
        any other one its server is started first, from the Bento there is. It returns once the
        traffic is back: what was rolled back from is stopped by `tidy`, or by the controller. A
        rollback that was killed before that is ended, not followed by another one. Raises
        NothingToRollBackToError; CertificateError and ReleaseError where the Bento was changed.
        """
        first = self.ledger.state(environment, model).generation
        return _patiently(
            expected,
            lambda: self._rollback(environment, model, actor, reason, expected, evidence, first),
        )

    def _rollback(
        self,
        environment: str,
        model: str,
        actor: Actor,
        reason: str,
        expected: int | None,
        evidence: Mapping[str, Any] | None,
        first: int,
    ) -> Event:
        """first: the generation when it was asked for; of two rollbacks at once one is done."""
        state, last = self._read(environment, model, expected)
        done = last is not None and last.action == "rollback"
        if last is not None and done and (state.generation > first or self._is_unfinished(state)):
            self.target.route()
            return last
        goal = msgspec.structs.replace(self._goal(state, last), weight=100, mirror=0)
        leaving = _leaving(state, last.phase if last else None, goal)
        stay = (item for item in state.live if item not in leaving and item.label != goal.label)
        change = _change(
            state,
            "rollback",
            goal,
            (goal, *stay),
            actor,
            {"reason": reason, "from": [item.label for item in leaving]} | dict(evidence or {}),
        )
        name = cluster_name(environment, model, goal)
        resident = find(state.live, goal.label)
        is_up = resident is not None and resident.bento_digest == goal.bento_digest
        if is_up and self.target.ready(name):
            return carry_out(self.ledger, self.target, change)
        release = self.releases(goal)
        release.require_certificate(environment)
        return bring_up(self.ledger, self.target, release, change)

    def tidy(self, environment: str, model: str) -> None:
        """Drain and stop the servers of this model that are not live any more."""
        tidy(self.ledger, self.target, environment, model)

    def _is_unfinished(self, state: State) -> bool:
        return not self.target.in_step() or bool(
            leftovers(self.ledger, self.target, state.environment, state.model)
        )

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

    def _read(
        self, environment: str, model: str, expected: int | None
    ) -> tuple[State, Event | None]:
        state, last = head(self.ledger, environment, model)
        if expected is not None and expected != state.generation:
            raise LedgerConflictError(
                f"{model} in {environment} is at generation {state.generation}, not {expected}: "
                "somebody changed it; look at it and try again"
            )
        return state, last

    def _require_ready(self, state: State, live: tuple[Live, ...]) -> None:
        """Whatever gets more traffic than it has must be able to answer it."""
        for old, new in zip(state.live, live, strict=True):
            name = cluster_name(state.environment, state.model, new)
            if new.weight > old.weight and not self.target.ready(name):
                raise TrafficError(
                    f"version {new.label}: its server is not ready, so it cannot get "
                    f"{new.weight} % of the traffic: see {name}.log, or wait and try again"
                )

    def _carry_out(
        self,
        state: State,
        action: Action,
        subject: Live,
        live: tuple[Live, ...],
        actor: Actor,
        evidence: dict[str, Any],
    ) -> Event:
        change = _change(state, action, subject, live, actor, evidence)
        return carry_out(self.ledger, self.target, change)


def _patiently(expected: int | None, change: Callable[[], Event]) -> Event:
    """Where the state moved meanwhile, as a controller does it, look again: for changes that mean
    the same on any state. Not for who has said which state it is for."""
    for _ in range(_ATTEMPTS if expected is None else 0):
        with suppress(LedgerConflictError):
            return change()
    return change()


def _change(
    state: State,
    action: Action,
    subject: Live,
    live: tuple[Live, ...],
    actor: Actor,
    evidence: dict[str, Any],
) -> Change:
    return Change(
        base=state,
        action=action,
        subject=subject,
        live=live,
        actor=actor.name,
        dagster_run=actor.dagster_run,
        evidence=evidence,
    )


def _with_weight(live: Live, weight: int) -> Live:
    return msgspec.structs.replace(live, weight=weight, mirror=0 if weight else live.mirror)


def _require_idle(state: State, label: str, last: Event | None) -> Live:
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


def _leaving(state: State, phase: Phase | None, goal: Live) -> list[Live]:
    """What is rolled back from: all that has or sees traffic, and a release's candidate."""
    candidate = phase.candidate if phase else None
    return [
        live
        for live in state.live
        if live.label != goal.label and (live.weight or live.mirror or live.label == candidate)
    ]
