"""What one look at a model's drift found: written by the Dagster side, answered by the control API.

`<home>/reports/drift/<environment>/<model>/latest.json` and, beside it, `latest.html`.
"""

from pathlib import Path
from typing import Literal

import msgspec

from deploy.findings import Finding, FindingsError, Status
from deploy.home import Home

Kind = Literal["number", "category", "text"]
Severity = Literal["info", "warning", "error"]


class ColumnDrift(msgspec.Struct, frozen=True, kw_only=True):
    """score: the population stability index less what chance alone explains, null where there was
    nothing to compare; it has drifted above `limit`. statistic: of a text, the one with the highest
    score."""

    name: str
    kind: Kind
    score: float | None
    limit: float
    drifted: bool
    statistic: str | None = None


class Note(msgspec.Struct, frozen=True):
    """Something about a column that a score does not tell."""

    column: str
    severity: Severity
    message: str


class DriftResult(msgspec.Struct, frozen=True, kw_only=True):
    """rows, reference_rows: what was compared; share: of the columns that have drifted; reason: the
    verdict in a sentence; checks: by asset check, whether it passed, empty without a verdict."""

    verdict: Status
    reason: str
    rows: int
    reference_rows: int
    share: float | None = None
    columns: tuple[ColumnDrift, ...] = ()
    prediction: ColumnDrift | None = None
    notes: tuple[Note, ...] = ()
    checks: dict[str, bool] = {}


class DriftReport(msgspec.Struct, frozen=True, kw_only=True):
    """`latest.json`. others: rows of the window that other versions answered, by version."""

    finding: Finding
    result: DriftResult
    others: dict[str, int] = {}


def report_folder(home: Home, environment: str, model: str) -> Path:
    """Where the reports of one model in one environment lie."""
    return home.reports / "drift" / environment / model


def read_drift_report(home: Home, environment: str, model: str) -> DriftReport | None:
    """The latest one, None where nobody looked yet; FindingsError for one that is damaged."""
    path = report_folder(home, environment, model) / "latest.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=DriftReport)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise FindingsError(f"{path}: {error}; remove it, the next check writes it anew") from error
