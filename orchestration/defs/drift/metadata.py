"""What Dagster's UI shows of drift and live quality."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import dagster as dg

from deploy.drift_result import ColumnDrift, DriftReport, DriftResult, Kind, Note
from deploy.home import Home
from orchestration.defs.lifecycle.metadata import table
from orchestration.svg import markdown_image

if TYPE_CHECKING:
    from orchestration.monitoring.looks import QualityReport
    from orchestration.monitoring.quality import QualityResult


def drift_metadata(report: DriftReport, home: Home, url: str) -> dict[str, Any]:
    """Of the asset: the verdict, numbers that Dagster plots over time, and where the page is."""
    result, finding = report.result, report.finding
    found: dict[str, Any] = {
        "verdict": result.verdict.replace("_", " "),
        "reason": result.reason,
        "window": finding.window,
        "version": finding.version or "none",
        "rows": result.rows,
        "reference_rows": result.reference_rows,
        "report": dg.MetadataValue.url(url),
    }
    if finding.report:
        found["report_file"] = dg.MetadataValue.path(str(home.root / finding.report))
    if report.others:
        found["rows_of_other_versions"] = table(
            [{"version": name, "rows": rows} for name, rows in sorted(report.others.items())]
        )
    if result.share is not None:
        found["drifted_share"] = result.share
        found |= column_metadata(result)
    return found


def column_metadata(result: DriftResult, kind: Kind | None = None) -> dict[str, Any]:
    """Scores as a table and as a plot, and what was noted; kind: of columns of that one alone."""
    columns = [found for found in result.columns if kind in (None, found.kind)]
    names = {found.name for found in columns}
    notes = [note for note in result.notes if kind is None or note.column in names]
    return _scores(columns) | _notes(notes)


def prediction_metadata(result: DriftResult) -> dict[str, Any]:
    """The score of the predictions."""
    return _scores([result.prediction]) if result.prediction else {}


def _scores(columns: list[ColumnDrift]) -> dict[str, Any]:
    from orchestration.monitoring.plots import scores_svg

    if not columns:
        return {}
    image = markdown_image("scores of the columns", scores_svg(columns))
    return {"columns": table([row(c) for c in columns]), "plot": dg.MetadataValue.md(image)}


def row(column: ColumnDrift) -> dict[str, Any]:
    """One line of the table of columns."""
    return {
        "column": column.name,
        "kind": column.kind,
        "score": "no value" if column.score is None else f"{column.score:.4f}",
        "limit": f"{column.limit:.4f}",
        "drifted": "drifted" if column.drifted else "",
        "statistic": column.statistic,
    }


def _notes(notes: Iterable[Note]) -> dict[str, Any]:
    rows = [{"column": n.column, "severity": n.severity, "message": n.message} for n in notes]
    return {"notes": table(rows[:100])} if rows else {}


def quality_metadata(report: "QualityReport") -> dict[str, Any]:
    """The verdict, the metrics, slices, and how far confidence can be believed."""
    result = report.result
    found: dict[str, Any] = {
        "verdict": result.verdict.replace("_", " "),
        "reason": result.reason,
        "window": report.finding.window,
        "labelled_answers": result.rows,
        **result.metrics,
        **_notes(result.notes),
    }
    if report.by_version:
        found["by_version"] = table(
            [{"version": name, "labelled": n} for name, n in sorted(report.by_version.items())]
        )
    if result.slices:
        found["slices"] = table(_slices(result))
    return found | _reliability(result)


def _slices(result: "QualityResult") -> list[dict[str, Any]]:
    return [
        {"input": part.column, "value": part.value, "rows": part.rows}
        | {name: f"{value:.4f}" for name, value in part.metrics.items()}
        for part in result.slices
    ]


def _reliability(result: "QualityResult") -> dict[str, Any]:
    from orchestration.monitoring.plots import reliability_svg

    if not result.reliability:
        return {}
    image = markdown_image("calibration", reliability_svg(result.reliability))
    return {"calibration_plot": dg.MetadataValue.md(image)}
