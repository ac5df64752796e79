"""What the latest findings say of the settings' limits: pure functions."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from deploy.control.condition import Condition, condition
from deploy.findings import Finding, age_seconds
from serving_config.schema import Configuration

_ALERTS = {
    "drift": "DataDrift",
    "quality": "PredictionQuality",
    "features": "StaleFeatures",
    "schedule": "ScheduleFailed",
}


def finding_conditions(
    configuration: Configuration, findings: Iterable[Finding], now: datetime, up_seconds: float
) -> Iterator[Condition]:
    """Each finding's own alert, and whether it is overdue.

    up_seconds: how long the platform has been running; what nobody looked at while it was down is
    not overdue.
    """
    factor = configuration.platform.alerts.schedule_silence_factor
    for finding in findings:
        if not is_configured(configuration, finding):
            continue
        unseen = min(age_seconds(finding, now), up_seconds)
        overdue = is_overdue(finding, unseen, factor)
        if finding.valid_seconds is not None:
            limit = hours(finding.valid_seconds * factor)
            about = _about(finding) | {"kind": finding.kind, "subject": finding.subject}
            about = {name: about[name] for name in ("kind", "environment", "subject")}
            yield condition("ScheduleOverdue", about, overdue, hours(unseen), limit, at_once=True)
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
    """Whether the settings still know what it is about; of a schedule only its environment."""
    if finding.environment and finding.environment not in configuration.environments:
        return False
    if finding.kind in ("drift", "quality"):
        return finding.subject in configuration.models
    return finding.kind != "features" or finding.subject in configuration.features.views


def is_overdue(finding: Finding, unseen_seconds: float, factor: float) -> bool:
    """Whether nobody knows any more."""
    return finding.valid_seconds is not None and unseen_seconds > finding.valid_seconds * factor


def hours(seconds: float) -> str:
    """A duration for people."""
    return f"{seconds / 3600:.3g} h" if seconds >= 3600 else f"{seconds / 60:.3g} min"
