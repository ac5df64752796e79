"""Rollout: a release begins by its policy, with no moment in between for clients.

direct ends here, and so does blue_green but for its bake time; a canary only begins. What is in
progress then is the last event's phase, which the controller takes further.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from deploy.changes import (
    carry_out,
    continued,
    converge,
    ensure_server,
    head,
    ready_server,
    tidy,
)
from deploy.events import (
    Action,
    Actor,
    Change,
    Counters,
    Event,
    LedgerConflictError,
    Live,
    Phase,
    ReleaseInProgressError,
    State,
)
from deploy.ledger import Ledger
from deploy.phases import baseline, begin, find, live_in, proof, share, stable_beside, without
from deploy.request import Gate, Request, watched_bake
from deploy.targets.base import Target, TargetError
from deploy.weights import require_idle

__all__ = ["Gate", "GateError", "Outcome", "Request", "roll_out", "watched_bake"]


class GateError(RuntimeError):
    """The candidate failed before it got any traffic; it has left again."""


@dataclass(frozen=True)
class Outcome:
    """What a rollout did. started: a canary's first phase began, which the controller takes
    further; `deploy.history.release_result` tells how it ended. loaded: live without traffic.
    superseded: see `Request.superseded_by`; nothing was changed."""

    status: Literal["deployed", "loaded", "started", "unchanged", "superseded"]
    state: State
    event: Event | None = None


def roll_out(ledger: Ledger, target: Target, request: Request, gate: Gate | None = None) -> Outcome:
    """Release by the policy; the same release again goes on where the one before was killed.

    Without another version to compare with, the policy is direct; so it is for another build of
    the very version that serves, for one label is one server. gate: needed for the policies
    blue_green and canary.

    Raises CertificateError without the proof, TargetError when the server does not get ready,
    GateError when the gate says no, GatewayError when the gateway does not follow,
    ReleaseInProgressError for another one that is not over (see `watched_bake`),
    LedgerConflictError for a lost race. Whatever it raises, the version that was live before goes
    on serving; or the new one, where only the tidying up after it failed: the same rollout again
    does that.
    """
    release, environment = request.release, request.environment
    release.require_certificate(environment)
    before, last = head(ledger, environment, release.model)
    subject = release.live()
    if request.superseded_by(before) is not None:
        return Outcome("superseded", before)
    if (bakes := watched_bake(ledger, request)) is not None:
        raise ReleaseInProgressError(
            f"{release.model} version {bakes.candidate} is in its bake time in {environment}: wait "
            f"for its end, `slipway rollback {release.model}`, or release by the policy direct"
        )
    rollout = _Rollout(ledger, target, request, before, last)
    mine, stable = find(before.live, subject.label), stable_beside(before.live, subject.label)
    if request.beside and stable is not None:
        return rollout.loaded()
    if rollout.is_in_progress():
        return rollout.again("started")
    if mine is not None and (mine.bento_digest, mine.weight) == (subject.bento_digest, 100):
        return rollout.again("unchanged")
    if request.policy.policy == "direct" or stable is None:
        return rollout.direct()
    if gate is None:
        raise ValueError(f"the policy {request.policy.policy} needs a gate")
    return rollout.beside(stable, gate)


@dataclass(frozen=True)
class _Rollout:
    """One request, and what it found."""

    ledger: Ledger
    target: Target
    request: Request
    before: State
    last: Event | None

    @property
    def phase(self) -> Phase | None:
        return self.last.phase if self.last else None

    @property
    def actor(self) -> Actor:
        return Actor(self.request.actor, self.request.dagster_run)

    @property
    def subject(self) -> Live:
        return self.request.release.live()

    def again(self, status: Literal["unchanged", "started"]) -> Outcome:
        """It is live already: bring back what was lost."""
        ensure_server(self.target, self.request.release, self.request.environment)
        converge(self.ledger, self.target, self.before.environment, self.before.model)
        return Outcome(status, self.before, self.last if status == "started" else None)

    def is_in_progress(self) -> bool:
        """Whether this very release is in a shadow or canary; raises where another one is."""
        phase, model = self.phase, self.before.model
        if phase is None or phase.name == "bake":
            return False
        candidate = find(self.before.live, phase.candidate)
        if candidate and candidate.bento_digest == self.subject.bento_digest:
            return True
        raise ReleaseInProgressError(
            f"a release of {model} version {phase.candidate} is in progress in "
            f"{self.before.environment} ({phase.name}, {share(phase)} %): wait for it, or "
            f"`slipway rollback {model}`"
        )

    def _change(self, action: Action, live: tuple[Live, ...], evidence: dict[str, Any]) -> Change:
        return self.actor.change(self.before, action, live[0], live, proof(live[0]) | evidence)

    def _first_phase(self, name: Literal["shadow", "canary", "bake"], stable: Live | None) -> Phase:
        return Phase(
            name=name,
            candidate=self.subject.label,
            stable=stable.with_share(100) if stable else None,
            policy=self.request.policy.model_dump(mode="json"),
        )

    def _patiently(self, record: Callable[["_Rollout"], Event]) -> Event:
        """Once more where the state moved by what does not concern this release."""
        try:
            return record(self)
        except LedgerConflictError:
            moved = self._moved()
            if moved is None:
                raise
        return moved._patiently(record)

    def _moved(self) -> "_Rollout | None":
        """The same on the state of now; None where what happened since concerns this release."""
        model, environment = self.before.model, self.before.environment
        after = self.last.id if self.last else 0
        since = self.ledger.events(model, environment, after=after)
        if not since or not all(self._leaves_alone(event) for event in since):
            return None
        return replace(self, before=since[-1].state, last=since[-1])

    def _leaves_alone(self, event: Event) -> bool:
        if event.action in ("load", "retire"):
            return event.label != self.subject.label
        return event.action in ("healthy", "unhealthy")

    def direct(self) -> Outcome:
        """All traffic at once; the server that had it goes as soon as it has drained."""
        with ready_server(self.ledger, self.target, self.request.release, self.request.environment):
            event = self._patiently(_Rollout._everything)
        return self._done(event)

    def _everything(self) -> Event:
        subject, before = self.subject, self.before
        evidence = {}
        if self.request.policy.bake_seconds > 0:
            phase = self._first_phase("bake", stable_beside(before.live, subject.label))
            counted: dict[str, Counters] = {}
            with suppress(TargetError):  # of a server that has just started the gateway knows none
                counted = baseline(self.target, before, subject)
            phase = msgspec.structs.replace(phase, baseline=counted)
            evidence = {"phase": msgspec.to_builtins(phase)}
        change = self._change(self.request.action, (subject,), evidence)
        return carry_out(self.ledger, self.target, change)

    def _done(self, event: Event) -> Outcome:
        state = event.state
        tidy(self.ledger, self.target, state.environment, state.model)
        return Outcome("deployed", self.ledger.state(state.environment, state.model), event)

    def loaded(self) -> Outcome:
        """Live without traffic; what serves goes on, and so does a release in progress."""
        mine = find(self.before.live, self.subject.label)
        if mine is not None and mine.bento_digest == self.subject.bento_digest:
            return self.again("unchanged")
        with ready_server(self.ledger, self.target, self.request.release, self.request.environment):
            event = self._patiently(_Rollout._load_in_place)
        return replace(self._done(event), status="loaded")

    def _load_in_place(self) -> Event:
        """Another build of it leaves, if that has no part in what goes on."""
        if find(self.before.live, self.subject.label) is not None:
            require_idle(self.before, self.subject.label, self.last)
        return self._load()

    def beside(self, stable: Live, gate: Gate) -> Outcome:
        """Load, ask the gate, then all traffic (blue_green) or the first phase (canary), which
        is refused before any of it where the gateway could not serve by it."""
        others = without(self.before.live, self.subject.label)
        live = live_in(self._beginning(stable), (self.subject, *others))
        self.target.require_routable(msgspec.structs.replace(self.before, live=live))
        with ready_server(self.ledger, self.target, self.request.release, self.request.environment):
            loaded = self._patiently(_Rollout._load)
        there = replace(self, before=loaded.state, last=loaded)
        evidence = {"analysis": there._pass(gate)}
        event = there._patiently(lambda now: now._begin(stable, evidence))
        if event.phase is None or event.phase.name == "bake":
            return self._done(event)
        return Outcome("started", event.state, event)

    def _begin(self, stable: Live, evidence: dict[str, Any]) -> Event:
        """The first phase of the candidate, which is loaded."""
        first = self._beginning(stable)
        action = self.request.action if first.name == "bake" else None
        change = begin(first, self.before, self.target, self.actor, evidence, action)
        return carry_out(self.ledger, self.target, change)

    def _beginning(self, stable: Live) -> Phase:
        policy = self.request.policy
        if policy.policy == "blue_green":
            return self._first_phase("bake", stable)
        return self._first_phase("shadow" if policy.shadow else "canary", stable)

    def _pass(self, gate: Gate) -> Any:
        """The gate's analysis; GateError where it says no, or cannot ask."""
        try:
            analysis = gate(self.request, self.before)
            reason, numbers = analysis.reason, msgspec.to_builtins(analysis)
            if analysis.decision != "rollback":
                return numbers
        except TargetError as error:
            reason, numbers = str(error), None
        except BaseException as error:
            with suppress(Exception):  # the first error is the one to tell
                self._leave(f"the gate failed: {str(error) or type(error).__name__}", {})
            raise
        self._leave(reason, {"analysis": numbers})
        label = self.subject.label
        raise GateError(f"{self.before.model} version {label} was not released: {reason}")

    def _load(self) -> Event:
        """The candidate live without traffic; its phase goes on if the version before bakes."""
        subject = self.request.release.live(weight=0)
        mine = find(self.before.live, subject.label)
        if self.last is not None and mine is not None and mine.bento_digest == subject.bento_digest:
            self.target.route()  # whoever loaded it may have been killed before that
            return self.last
        live = (subject, *without(self.before.live, subject.label))
        change = self._change("load", live, continued(self.last))
        return carry_out(self.ledger, self.target, change)

    def _leave(self, reason: str, evidence: dict[str, Any]) -> None:
        """Off the ledger with the reason, unless somebody has given it traffic by hand."""
        subject = find(self.before.live, self.subject.label)
        if subject is None or subject.weight > 0:
            return
        self._patiently(lambda now: now._retire(subject, {"reason": reason} | evidence))
        tidy(self.ledger, self.target, self.before.environment, self.before.model)

    def _retire(self, subject: Live, evidence: dict[str, Any]) -> Event:
        others = without(self.before.live, subject.label)
        said = evidence | continued(self.last)
        change = self.actor.change(self.before, "retire", subject, others, said)
        return carry_out(self.ledger, self.target, change)
