"""What the latest findings say of the settings' limits."""

import time
from collections.abc import Callable, Iterable, Iterator

from deploy.control.condition import Condition, condition
from deploy.dagster_names import watched_jobs
from deploy.findings import Finding
from serving_config.schema import Configuration

_ALERTS = {
    "drift": "DataDrift",
    "quality": "PredictionQuality",
    "features": "StaleFeatures",
    "schedule": "ScheduleFailed",
}


class Unseen:
    """For how long this process has waited for each finding to be renewed.

    Not their age: what nobody looked at while the platform was down, or the machine asleep, is not
    overdue, nor is anything because a clock was changed.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[tuple[str, str, str], tuple[str, float]] = {}

    def seconds(self, finding: Finding) -> float:
        """Since it was first seen as it is now."""
        key, now = (finding.kind, finding.environment, finding.subject), self._clock()
        at, since = self._since.get(key, ("", now))
        if at != finding.at:
            since = now
            self._since[key] = finding.at, since
        return now - since


def finding_conditions(
    configuration: Configuration, findings: Iterable[Finding], unseen: Unseen
) -> Iterator[Condition]:
    """Each finding's own alert, and whether it is overdue."""
    factor = configuration.platform.alerts.schedule_silence_factor
    for finding in findings:
        if not is_configured(configuration, finding):
            continue
        waited = unseen.seconds(finding)
        overdue = is_overdue(finding, waited, factor)
        if finding.valid_seconds is not None:
            limit = hours(finding.valid_seconds * factor)
            about = _about(finding) | {"kind": finding.kind, "subject": finding.subject}
            about = {name: about[name] for name in ("kind", "environment", "subject")}
            yield condition("ScheduleOverdue", about, overdue, hours(waited), limit, at_once=True)
        yield _own(finding, overdue)


def _own(finding: Finding, overdue: bool) -> Condition:
    """Not known where it is overdue, or had not enough data."""
    passed = None if overdue or finding.status == "not_enough_data" else finding.status == "failed"
    alert, value = _ALERTS[finding.kind], finding.summary.rstrip(".") or finding.status
    return condition(alert, _about(finding), passed, value, "", at_once=True)


def _about(finding: Finding) -> dict[str, str]:
    if finding.kind in ("drift", "quality"):
        named = {"environment": finding.environment, "model": finding.subject}
        return named | {"version": finding.version}
    return {"kind": finding.kind, "environment": finding.environment, "subject": finding.subject}


def is_configured(configuration: Configuration, finding: Finding) -> bool:
    """Whether the settings still know what it is about."""
    if finding.environment and finding.environment not in configuration.environments:
        return False
    if finding.kind == "schedule":
        return finding.subject in watched_jobs(configuration)
    if finding.kind == "features":
        return finding.subject in configuration.features.views
    model = configuration.models.get(finding.subject)
    return model is not None and (model.drift.enabled or finding.kind != "drift")


def is_overdue(finding: Finding, unseen_seconds: float, factor: float) -> bool:
    """Whether nobody knows any more."""
    return finding.valid_seconds is not None and unseen_seconds > finding.valid_seconds * factor


def hours(seconds: float) -> str:
    """A duration for people."""
    return f"{seconds / 3600:.3g} h" if seconds >= 3600 else f"{seconds / 60:.3g} min"
