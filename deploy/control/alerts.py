"""Which alerts there are: pending, firing, resolved, from the conditions of each moment."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime

from msgspec.structs import replace

from deploy.control.alert import (
    Alert,
    AlertsError,
    fingerprint,
    read_versioned_alerts,
    write_alerts,
)
from deploy.control.condition import Condition
from deploy.control.conditions import conditions
from deploy.control.finding_conditions import Unseen, finding_conditions
from deploy.control.last_events import LastEvents
from deploy.control.observer import Observation
from deploy.events import LedgerConflictError, LedgerError
from deploy.findings import readable
from deploy.home import Home
from deploy.ledger import Ledger
from deploy.live import configured
from serving_config.schema import Configuration

MAX_ACTIVE, MAX_RESOLVED = 1000, 100
logger = logging.getLogger("slipway.alerts")


class Alerting:
    """tick() by one thread; `current()` by any. observations: the last look at all live servers,
    by cluster name. send: gets each alert that fires or resolves, and must not block."""

    def __init__(
        self,
        configuration: Configuration,
        observations: Callable[[], Mapping[str, Observation]],
        ledger: Ledger,
        home: Home,
        send: Callable[[Alert], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._configuration, self._observations = configuration, observations
        self._ledger, self._last_events = ledger, LastEvents(ledger)
        self._home, self._send, self._clock = home, send, clock
        self._unseen, self._damaged = Unseen(clock), list[str]()
        self._active: dict[str, Alert] = {}
        self._pending_since: dict[str, float] = {}
        self._resolved: deque[Alert] = deque(maxlen=MAX_RESOLVED)
        self._written: list[Alert] | None = None
        self._version: int | None = None
        self._current: tuple[Alert, ...] = ()
        self.restore()

    def current(self) -> tuple[Alert, ...]:
        """What is pending and firing, then what resolved last."""
        return self._current

    def tick(self) -> None:
        """Look at all limits. LedgerError: nothing is known, and nothing changes."""
        states = configured(self._ledger.states(), self._configuration)
        events = [event for state in states.values() if (event := self._last_events.of(state))]
        observed = self._observations()
        found = [
            *conditions(self._configuration, states.values(), observed, events),
            *self._of_findings(),
        ]
        changed = self._move({fingerprint(item.labels): item for item in found})
        if not self._publish():
            return
        for alert in changed:
            logger.warning("%s: %s", alert.state, alert.annotations["summary"])
            self._send(alert)

    def _of_findings(self) -> Iterator[Condition]:
        findings, damaged = readable(self._home)
        if damaged and damaged != self._damaged:  # once, not each second
            logger.error("%s", "; ".join(damaged))
        self._damaged = damaged
        return finding_conditions(self._configuration, findings, self._unseen)

    def _move(self, found: Mapping[str, Condition]) -> list[Alert]:
        changed = [self._resolve(key) for key in self._active.keys() - found.keys()]
        for key, condition in found.items():
            if condition.passed:
                changed.append(self._pass(key, condition))
            elif key in self._active and (condition.passed is False or self._is_pending(key)):
                changed.append(self._resolve(key))
        return [alert for alert in changed if alert is not None]

    def _pass(self, key: str, condition: Condition) -> Alert | None:
        """The alert where it fires now."""
        now = _utc()
        alert = self._active.get(key)
        if alert is None:
            if len(self._active) >= MAX_ACTIVE:
                return None
            self._pending_since[key] = self._clock()
            alert = Alert(
                state="pending",
                labels=condition.labels,
                annotations=condition.annotations,
                since=now,
            )
        alert = self._active[key] = replace(alert, annotations=condition.annotations)
        if alert.state == "firing" or not self._held(key, condition):
            return None
        del self._pending_since[key]
        alert = self._active[key] = replace(alert, state="firing", starts_at=now)
        return alert

    def _held(self, key: str, condition: Condition) -> bool:
        seconds = 0.0 if condition.at_once else self._configuration.platform.alerts.for_seconds
        return self._clock() - self._pending_since[key] >= seconds

    def _is_pending(self, key: str) -> bool:
        return self._active[key].state == "pending"

    def _resolve(self, key: str) -> Alert | None:
        """The alert where it had fired."""
        alert = self._active.pop(key)
        if self._pending_since.pop(key, None) is not None:
            return None
        alert = replace(alert, state="resolved", ends_at=_utc())
        self._resolved.appendleft(alert)
        return alert

    def _publish(self) -> bool:
        """False where another process evaluates them, too: it was faster, and has sent them."""
        alerts = [*self._active.values(), *self._resolved]
        self._current = tuple(alerts)
        if alerts == self._written:
            return True
        try:
            self._version = write_alerts(self._home, alerts, self._version)
            self._written = alerts
        except LedgerConflictError:
            self._read()
            return False
        except LedgerError as error:  # alerts go out nevertheless; tried again at the next tick
            logger.error("alerts cannot be written: %s", error)
        return True

    def restore(self) -> None:
        """What fired before a restart, or in the process that evaluated them before, fires still,
        until a look says otherwise."""
        self._active.clear()
        self._pending_since.clear()
        self._read()

    def _read(self) -> None:
        """What is on record, and beside it what is pending here."""
        self._written, self._version, alerts = None, None, list[Alert]()
        try:
            alerts, self._version = read_versioned_alerts(self._home)
            self._written = alerts
        except AlertsError as error:
            logger.error("%s", error)
        self._resolved.clear()
        self._resolved.extend(alert for alert in alerts if alert.state == "resolved")
        firing = {alert.fingerprint: alert for alert in alerts if alert.state == "firing"}
        pending = {key: self._active[key] for key in self._pending_since.keys() - firing.keys()}
        self._pending_since = {key: self._pending_since[key] for key in pending}
        self._active = firing | pending
        self._current = (*self._active.values(), *self._resolved)


def _utc() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
