"""What the scheduled checks last found: one small file for each, read by alerts and metrics.

A finding is the latest word on one subject; its history is in Dagster.
"""

from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from deploy.home import Home, write_atomically

Kind = Literal["drift", "quality", "features", "schedule"]
Status = Literal["passed", "failed", "not_enough_data"]


class FindingsError(RuntimeError):
    """A finding that cannot be read."""


class Finding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """subject: the model, feature view or schedule; environment: "" where there is none.

    at: RFC 3339, UTC, when the check ended; window: what it looked at, for people.
    failures_in_row: how often it failed since it last passed, this time included; a check that had
    not enough data leaves it as it was. Another version begins anew.
    valid_seconds: after that nobody knows any more, and an alert says so (`ScheduleOverdue`).
    values: numbers for metrics, by name, and `column.<name>` for each column's score.
    summary: one sentence; report: the HTML page below the home, if there is one; url: Dagster's.
    """

    kind: Kind
    environment: str
    subject: str
    version: str = ""
    status: Status
    at: str
    window: str = ""
    failures_in_row: int = 0
    valid_seconds: float | None = None
    values: dict[str, float] = {}
    summary: str = ""
    report: str | None = None
    url: str | None = None


def path_of(home: Home, kind: Kind, environment: str, subject: str) -> Path:
    """Where the finding lies."""
    return home.findings / kind / f"{subject}@{environment}.json"


def write_finding(home: Home, finding: Finding) -> Finding:
    """Keep it in place of the one before, also of a damaged one; returns it with `failures_in_row`
    counted on."""
    try:
        before = read_finding(home, finding.kind, finding.environment, finding.subject)
    except FindingsError:
        before = None
    goes_on = before is not None and before.version == finding.version
    count = before.failures_in_row if before and goes_on else 0
    if finding.status != "not_enough_data":
        count = count + 1 if finding.status == "failed" else 0
    counted = msgspec.structs.replace(finding, failures_in_row=count)
    path = path_of(home, finding.kind, finding.environment, finding.subject)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(path, msgspec.json.encode(counted))
    return counted


def read_finding(home: Home, kind: Kind, environment: str, subject: str) -> Finding | None:
    """The latest one, None where nothing was found yet; FindingsError for one that is damaged."""
    return _read(path_of(home, kind, environment, subject))


def readable(home: Home) -> tuple[list[Finding], list[str]]:
    """Those that can be read, and of each damaged one what is wrong: it hides no other."""
    found, damaged = [], []
    for path in sorted(home.findings.glob("*/*.json")):
        try:
            if (finding := _read(path)) is not None:
                found.append(finding)
        except FindingsError as error:
            damaged.append(str(error))
    return found, damaged


def age_seconds(finding: Finding, now: datetime) -> float:
    """Since it was written."""
    return max(0.0, (now - datetime.fromisoformat(finding.at)).total_seconds())


def _read(path: Path) -> Finding | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Finding)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise FindingsError(f"{path}: {error}; the next check writes it anew") from error
