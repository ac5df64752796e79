"""What serves, changed by hand or by the controller: split, load, retire, roll back.

Every change is one compare-and-swap on the ledger, then the gateway follows. Where the ledger
cannot be written nothing changes; where the gateway does not follow, the change is taken back on
the record. After a kill in between, the same call again, or the controller, ends it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deploy.changes import (
    carry_out,
    continued,
    head,
    patiently,
    ready_server,
    tidy,
)
from deploy.events import Actor, Event, Live, State
from deploy.gateway.routes import cluster_name
from deploy.ledger import Ledger
from deploy.phases import find, proof, without
from deploy.release import Release
from deploy.rollback import Rollback
from deploy.targets.base import Target
from deploy.weights import (
    NothingToRollBackToError,
    NotLiveError,
    TrafficError,
    require_idle,
    require_live,
    require_room_beside,
    whole_weights,
)

__all__ = ["Actor", "NotLiveError", "NothingToRollBackToError", "Traffic", "TrafficError"]


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
        state, last = head(self.ledger, environment, model, expected)
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
        change = actor.change(state, "split", first, live, evidence)
        return carry_out(self.ledger, self.target, change)

    def load(
        self, release: Release, environment: str, actor: Actor, expected: int | None = None
    ) -> Event:
        """Bring up a verified version beside the live ones, without traffic. The event is the last
        one where it is live already. A release in progress goes on."""
        release.require_certificate(environment)
        state, _ = head(self.ledger, environment, release.model, expected)
        require_room_beside(state, release)
        # Started once, however often the ledger moves.
        with ready_server(self.ledger, self.target, release, environment):
            return patiently(expected, lambda: self._load(release, environment, actor, expected))

    def _load(
        self, release: Release, environment: str, actor: Actor, expected: int | None
    ) -> Event:
        state, last = head(self.ledger, environment, release.model, expected)
        subject = release.live(weight=0)
        require_room_beside(state, release)
        if last is not None and find(state.live, subject.label) is not None:
            self.target.route()
            return last
        evidence = proof(subject) | continued(last)
        live = (subject, *state.live)
        change = actor.change(state, "load", subject, live, evidence)
        return carry_out(self.ledger, self.target, change)

    def retire(
        self, environment: str, model: str, label: str, actor: Actor, expected: int | None = None
    ) -> Event:
        """Let a version without traffic go: drain and stop its server."""
        event = patiently(
            expected, lambda: self._retire(environment, model, label, actor, expected)
        )
        self.tidy(environment, model)
        return event

    def _retire(
        self, environment: str, model: str, label: str, actor: Actor, expected: int | None
    ) -> Event:
        state, last = head(self.ledger, environment, model, expected)
        if last is not None and (last.action, last.label) == ("retire", label):
            self.target.route()
            return last  # again, after a kill in between
        subject = require_idle(state, label, last)
        live = without(state.live, label)
        change = actor.change(state, "retire", subject, live, continued(last))
        return carry_out(self.ledger, self.target, change)

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
        back = Rollback(
            self.ledger,
            self.target,
            self.releases,
            environment,
            model,
            actor,
            reason,
            evidence or {},
            expected,
            first,
        )
        return patiently(expected, back)

    def tidy(self, environment: str, model: str) -> None:
        """Drain and stop the servers of this model that are not live any more."""
        tidy(self.ledger, self.target, environment, model)

    def _require_ready(self, state: State, live: tuple[Live, ...]) -> None:
        """Whatever gets more traffic than it has must be able to answer it."""
        for old, new in zip(state.live, live, strict=True):
            name = cluster_name(state.environment, state.model, new)
            if new.weight > old.weight and not self.target.ready(name):
                raise TrafficError(
                    f"version {new.label}: its server is not ready, so it cannot get "
                    f"{new.weight} % of the traffic: see {name}.log, or wait and try again"
                )


def _with_weight(live: Live, weight: int) -> Live:
    return live.with_share(weight, 0 if weight else live.mirror)
