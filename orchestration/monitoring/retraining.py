"""Whether a model is to be trained again, as a pure function."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from deploy.findings import Finding
from serving_config.monitoring import Retraining


@dataclass(frozen=True)
class Train:
    """Yes. finding: the check's latest word."""

    reason: str
    finding: Finding


@dataclass(frozen=True)
class Wait:
    """No, or not now."""

    reason: str


def decide(
    settings: Retraining,
    findings: Iterable[Finding],
    last_training: Callable[[], datetime | None],
    labelled_rows: Callable[[], int],
    now: datetime,
) -> Train | Wait:
    """What the checks' findings of one model lead to.

    last_training: when the last one began, whoever asked and whatever came of it. labelled_rows:
    that are there to learn from. Both take long to find out, and are asked only if it matters.
    """
    finding = asking(settings, findings, now)
    if finding is None:
        times = f"{settings.failures} times in a row" if settings.failures > 1 else "now"
        return Wait(f"neither has failed {times}: {', '.join(settings.checks)}")
    before = last_training()
    if before is not None:
        ends = before + timedelta(hours=settings.cool_down_hours)
        if now < ends:
            return Wait(f"last trained at {_shown(before)}; cool-down until {_shown(ends)}")
        if _at(finding) <= before:
            return Wait(f"{finding.kind} was checked before the last training, not since")
    if (rows := labelled_rows()) < settings.min_labelled_rows:
        return Wait(
            f"{rows} labelled answers since the last training, {settings.min_labelled_rows} are "
            "needed"
        )
    return Train(
        f"{finding.kind} failed {finding.failures_in_row} times in a row in "
        f"{finding.environment}: {finding.summary}".rstrip(": "),
        finding,
    )


def asking(settings: Retraining, findings: Iterable[Finding], now: datetime) -> Finding | None:
    """The finding that asks for training: the one that failed most often in a row, of those that
    failed often enough and still hold."""
    failed = [
        item
        for item in findings
        if item.kind in settings.checks
        and item.environment == settings.environment
        and item.status == "failed"
        and item.failures_in_row >= settings.failures
        and _holds(item, now)
    ]
    return max(failed, key=lambda item: item.failures_in_row, default=None)


def _shown(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def _holds(finding: Finding, now: datetime) -> bool:
    if finding.valid_seconds is None:
        return True
    return now <= _at(finding) + timedelta(seconds=finding.valid_seconds)


def _at(finding: Finding) -> datetime:
    return datetime.fromisoformat(finding.at)
