"""What serves, changed by hand or by the controller: split, load, retire, roll back.

Every change is one compare-and-swap on the ledger, then the gateway follows. Where the ledger
cannot be written nothing changes; where the gateway does not follow, the change is taken back on
the record. After a kill in between, the same call again, or the controller, ends it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from deploy.events import Event
from deploy.ledger import Ledger
from deploy.release import Release
from deploy.targets.base import Target


class TrafficError(ValueError):
    """A change that cannot be; nothing was changed. The message names field, value and fix."""


class NotLiveError(TrafficError):
    """The version is not live there."""


class NothingToRollBackToError(TrafficError):
    """The ledger knows no healthy version to return to."""


@dataclass(frozen=True)
class Actor:
    """Who changes something, as the ledger will say; dagster_run where one does."""

    name: str
    dagster_run: str | None = None


@dataclass(frozen=True)
class Traffic:
    """Changes of one ledger and its target. `expected`: the generation that the caller has seen;
    LedgerConflictError where it is another one. Raises LedgerError, GatewayError, TargetError too.
    """

    ledger: Ledger
    target: Target

    def split(
        self,
        environment: str,
        model: str,
        weights: Mapping[str, int],
        actor: Actor,
        expected: int | None = None,
    ) -> Event:
        """Give live versions other weights: label (`3`, `3-int8`) → percent, together 100.

        A live version that is not named gets 0 and stays resident. Ends a release in progress.
        """
        raise NotImplementedError

    def load(
        self, release: Release, environment: str, actor: Actor, expected: int | None = None
    ) -> Event:
        """Bring up a verified version beside the live ones, without traffic. The event is the last
        one where it is live already."""
        raise NotImplementedError

    def retire(
        self, environment: str, model: str, label: str, actor: Actor, expected: int | None = None
    ) -> Event:
        """Let a version without traffic go: drain and stop its server."""
        raise NotImplementedError

    def rollback(
        self,
        environment: str,
        model: str,
        actor: Actor,
        reason: str,
        expected: int | None = None,
    ) -> Event:
        """All traffic back to the last healthy version (`deploy.history.last_healthy`).

        From a release in progress, to its stable version. A resident version has it at once; for
        any other one its server is started first, from the Bento there is. What was rolled back
        from leaves. Raises NothingToRollBackToError; CertificateError and ReleaseError where the
        Bento was changed since.
        """
        raise NotImplementedError
