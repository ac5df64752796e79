"""One look at a model in one environment: the log's window read, judged, and written down."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec

from bentos.model_server.answers import label_key
from bentos.model_server.contract import parse_label
from deploy.drift_result import DriftReport, DriftResult, report_folder
from deploy.findings import Finding, write_finding
from deploy.home import Home, write_atomically
from deploy.ledger import open_ledger
from deploy.live import most_traffic
from deploy.versions import VersionFolder
from orchestration.monitoring.columns import column_kinds
from orchestration.monitoring.drift import Compared, drift
from orchestration.monitoring.quality import QualityResult, quality
from orchestration.monitoring.reference import reference_sample
from orchestration.monitoring.window import Window, features_of, read_window
from orchestration.resources.registry import Registry
from serving_config.schema import Configuration, Model

# How often the schedules look; what is older is not known any more.
EVERY_SECONDS = 3600.0
# Columns that get a metric of their own; those with the highest scores.
_MAX_COLUMNS = 100


@dataclass(frozen=True)
class Place:
    """Which model where, when, and what the run is called in Dagster's UI."""

    home: Home
    configuration: Configuration
    model: Model
    environment: str
    now: datetime
    url: str | None = None

    def since(self, hours: float) -> datetime:
        """When the window of that length began."""
        return self.now - timedelta(hours=hours)

    def serving(self) -> str | None:
        """The version that has the most traffic there now."""
        with open_ledger(self.home, self.configuration) as ledger:
            live = most_traffic(ledger.state(self.environment, self.model.name).live)
        return live.label if live else None

    def finding(
        self, kind: Literal["drift", "quality"], version: str, hours: float, **fields: Any
    ) -> Finding:
        """What was found, with what is the same for both kinds."""
        since, until = (t.strftime("%Y-%m-%d %H:%M") for t in (self.since(hours), self.now))
        return Finding(
            kind=kind,
            environment=self.environment,
            subject=self.model.name,
            version=version,
            at=self.now.astimezone(UTC).isoformat(timespec="seconds"),
            window=f"{since} to {until} UTC",
            valid_seconds=EVERY_SECONDS,
            url=self.url,
            **fields,
        )


def look_at_drift(place: Place, registry: Registry, hours: float | None = None) -> DriftReport:
    """Read, compare, draw, and write page, snapshot, finding and `latest.json`."""
    hours = hours or place.model.drift.window_hours
    serving = place.serving()
    window = read_window(
        place.home,
        place.configuration,
        place.model.name,
        place.environment,
        place.since(hours),
        place.now,
        serving,
    )
    compared = _compare(place, registry, window)
    latest = _draw(place, compared)
    finding = place.finding(
        "drift",
        window.label if window else serving or "",
        hours,
        status=compared.result.verdict,
        summary=compared.result.reason,
        values=drift_values(compared.result),
        report=str(latest.relative_to(place.home.root)),
    )
    report = DriftReport(
        finding=write_finding(place.home, finding),
        result=compared.result,
        others=window.others if window else {},
    )
    write_atomically(latest.with_suffix(".json"), msgspec.json.encode(report))
    return report


def _compare(place: Place, registry: Registry, window: Window | None) -> Compared:
    settings = place.model.drift
    if window is None:
        return _nothing(f"no answers in the window, {settings.min_rows} are needed")
    if len(window.sample.features) == 0:
        return _nothing(f"version {window.label}, which serves, has no answers in the window")
    folder = VersionFolder.of(place.home, place.model.name, window.label)
    reference = reference_sample(registry, place.model.registered_model, folder)
    if reference is None:
        why = f"the MLflow run of version {window.label} left no reference/reference.parquet"
        return _nothing(why, len(window.sample.features))
    contract, log = folder.contract(), place.model.prediction_log
    return drift(
        reference,
        window.sample,
        column_kinds(contract, frozenset((*log.never, *log.hashed))),
        settings,
        regression=contract.outputs.kind == "regression",
    )


def _nothing(why: str, rows: int = 0) -> Compared:
    reason = f"not enough data: {why}"
    return Compared(
        DriftResult(verdict="not_enough_data", reason=reason, rows=rows, reference_rows=0)
    )


def _draw(place: Place, compared: Compared) -> Path:
    """The page, and a snapshot where there is something to show; `latest.html`."""
    from orchestration.monitoring.evidently_report import (
        keep_page,
        keep_snapshot,
        make_report,
        page,
    )

    name, environment = place.model.name, place.environment
    snapshot = make_report(compared, place.model.drift.max_drifted_share)
    if snapshot is not None:
        keep_snapshot(place.home.reports / "workspace", f"{name} in {environment}", snapshot)
    folder = report_folder(place.home, environment, name)
    return keep_page(folder, page(snapshot, compared.result, f"{name} in {environment}"), place.now)


def drift_values(result: DriftResult) -> dict[str, float]:
    """Numbers for metrics; nothing without a verdict."""
    if result.share is None:
        return {"rows": result.rows}
    scored = [(c.score, c.name) for c in result.columns if c.score is not None]
    values = {"rows": float(result.rows), "share": result.share}
    if result.prediction is not None and result.prediction.score is not None:
        values["prediction"] = result.prediction.score
    worst = sorted(scored, reverse=True)[:_MAX_COLUMNS]
    return values | {f"column.{name}": score for score, name in worst}


@dataclass(frozen=True)
class QualityReport:
    """The finding and what it is made of; by_version: labelled answers by the version."""

    finding: Finding
    result: QualityResult
    by_version: dict[str, int]


def look_at_quality(place: Place) -> QualityReport:
    """Read the labelled answers, measure them, and write the finding."""
    from deploy.predictions.reader import labelled

    settings = place.model.quality
    where = (place.home, place.configuration, place.model.name, place.environment)
    window = (place.since(settings.window_hours), place.now)
    labels = labelled(*where, *window, ["label"])["label"].value_counts().to_pylist()
    counted = {str(item["values"]): int(item["counts"]) for item in labels}
    measured = place.serving() or max(counted, key=lambda label: parse_label(label)[0], default="")
    result = _measured(place, measured, counted.get(measured, 0), window)
    finding = place.finding(
        "quality",
        measured,
        settings.window_hours,
        status=result.verdict,
        summary=result.reason,
        values={"rows": float(result.rows), **result.metrics},
    )
    return QualityReport(write_finding(place.home, finding), result, counted)


def _measured(
    place: Place, label: str, rows: int, window: tuple[datetime, datetime]
) -> QualityResult:
    """Of that version's answers, of which so many are labelled."""
    from deploy.predictions.reader import labelled, unmatched_labels

    settings = place.model.quality
    where = (place.home, place.configuration, place.model.name, place.environment, *window)
    if not rows:
        version = f" of version {label}, which serves" if label else ""
        reason = f"not enough data: no labelled answers{version}, {settings.min_labels} are needed"
        return QualityResult("not_enough_data", reason, 0)
    folder = VersionFolder.of(place.home, place.model.name, label)
    outputs = folder.contract().outputs
    classes = [label_key(name) for name in outputs.labels]
    kept = ["prediction", *(f"probability_{name}" for name in classes)]
    sliced = [f"feature_{name}" for name in settings.slices]
    answers = labelled(*where, [*kept, *sliced], label=label).to_pandas()
    inputs = features_of(answers)
    answers = answers.drop(columns=[name for name in sliced if name in answers])
    # An input may be called as a column of the log is: that one is no slice.
    inputs = inputs.drop(columns=[name for name in inputs if name in answers])
    return quality(
        answers.join(inputs),
        settings,
        regression=outputs.kind == "regression",
        classes=classes,
        unmatched=unmatched_labels(*where),
    )
