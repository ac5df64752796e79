"""What the scheduled checks last found, in the ledger's database: alerts and metrics read it.

A finding is the latest word on one subject; its history is in Dagster.
"""

from datetime import datetime
from typing import Literal

import msgspec

from deploy.home import Home
from deploy.shared_state import Document, shared_state

KIND = "finding"
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


def key_of(kind: Kind, environment: str, subject: str) -> str:
    """What it is kept under."""
    return f"{kind}/{subject}@{environment}"


def write_finding(home: Home, finding: Finding) -> Finding:
    """Keep it in place of the one before, also of a damaged one; returns it with `failures_in_row`
    counted on."""
    counted = finding

    def count(before: bytes | None) -> bytes:
        nonlocal counted
        counted = _counted(finding, before)
        return msgspec.json.encode(counted)

    key = key_of(finding.kind, finding.environment, finding.subject)
    shared_state(home).change(KIND, key, count)
    return counted


def _counted(finding: Finding, data: bytes | None) -> Finding:
    try:
        before = None if data is None else msgspec.json.decode(data, type=Finding)
    except msgspec.DecodeError:
        before = None
    goes_on = before is not None and before.version == finding.version
    count = before.failures_in_row if before and goes_on else 0
    if finding.status != "not_enough_data":
        count = count + 1 if finding.status == "failed" else 0
    return msgspec.structs.replace(finding, failures_in_row=count)


def read_finding(home: Home, kind: Kind, environment: str, subject: str) -> Finding | None:
    """The latest one, None where nothing was found yet; FindingsError for one that is damaged."""
    found = shared_state(home).read(KIND, key_of(kind, environment, subject))
    return None if found is None else _decode(found)


def readable(home: Home) -> tuple[list[Finding], list[str]]:
    """Those that can be read, and of each damaged one what is wrong: it hides no other."""
    found, damaged = [], []
    for document in shared_state(home).all(KIND):
        try:
            found.append(_decode(document))
        except FindingsError as error:
            damaged.append(str(error))
    return found, damaged


def age_seconds(finding: Finding, now: datetime) -> float:
    """Since it was written."""
    return max(0.0, (now - datetime.fromisoformat(finding.at)).total_seconds())


def _decode(document: Document) -> Finding:
    try:
        return msgspec.json.decode(document.data, type=Finding)
    except msgspec.DecodeError as error:
        raise FindingsError(
            f"finding {document.key}: {error}; the next check writes it anew"
        ) from error
