"""One alert, and which there are: for the API, `status`, and whoever evaluates them next."""

import hashlib
from typing import Literal

import msgspec

from deploy.home import Home
from deploy.shared_state import shared_state

_PLACE = ("alerts", "current")


class AlertsError(RuntimeError):
    """The current alerts cannot be read."""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Times are UTC, ISO 8601. since: when its limit was passed; starts_at: when it fired;
    ends_at: when it resolved. labels: `alertname`, `severity` and what it is about."""

    state: Literal["pending", "firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str]
    since: str
    starts_at: str | None = None
    ends_at: str | None = None

    @property
    def fingerprint(self) -> str:
        """See `fingerprint`."""
        return fingerprint(self.labels)


def fingerprint(labels: dict[str, str]) -> str:
    """16 hex digits over the labels: the same alert has the same whenever it fires."""
    return hashlib.sha256(msgspec.json.encode(labels, order="sorted")).hexdigest()[:16]


def read_alerts(home: Home) -> list[Alert]:
    """The current alerts and the last resolved ones; AlertsError where they are damaged."""
    return read_versioned_alerts(home)[0]


def read_versioned_alerts(home: Home) -> tuple[list[Alert], int]:
    """And how often they were written."""
    found = shared_state(home).read(*_PLACE)
    if found is None:
        return [], 0
    try:
        return msgspec.json.decode(found.data, type=list[Alert]), found.version
    except msgspec.DecodeError as error:
        raise AlertsError(
            f"the alerts cannot be read: {error}; the platform writes them anew"
        ) from error


def write_alerts(home: Home, alerts: list[Alert], expected: int | None = None) -> int:
    """Replace them; returns their version. LedgerConflictError where another process has written
    since the version that is expected."""
    return shared_state(home).write(*_PLACE, msgspec.json.encode(alerts), expected)
