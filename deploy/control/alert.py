"""One alert, and the file that says which there are: for the API, `status`, and a restart."""

import hashlib
from typing import Literal

import msgspec

from deploy.home import Home, write_atomically


class AlertsError(RuntimeError):
    """The file of current alerts cannot be read."""


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
    """The current alerts and the last resolved ones; AlertsError where the file is none."""
    path = home.run / "alerts.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Alert])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError) as error:
        raise AlertsError(f"{path} cannot be read: {error}; the platform writes it anew") from error


def write_alerts(home: Home, alerts: list[Alert]) -> None:
    """Replace the file."""
    write_atomically(home.run / "alerts.json", msgspec.json.encode(alerts), mode=0o600)
