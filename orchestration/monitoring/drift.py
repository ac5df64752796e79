"""Whether live traffic is another than the model was trained on: two samples in, a result out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deploy.drift_result import ColumnDrift, DriftResult, Kind, Note
from orchestration.monitoring.bins import Floats, category_counts, number_counts
from orchestration.monitoring.columns import Pair, column, pair, strangers
from orchestration.monitoring.psi import Score, psi_score
from orchestration.monitoring.texts import STATISTICS, UNKNOWN_WORDS, statistics
from serving_config.monitoring import Drift

if TYPE_CHECKING:
    import pandas as pd

PREDICTION = "(prediction)"
# Below it the reference says nothing about a distribution, whatever the window holds.
MIN_REFERENCE_ROWS = 30


@dataclass(frozen=True)
class Sample:
    """Rows with the answers they got: labels, or the values of a regression."""

    features: "pd.DataFrame"
    predictions: "pd.Series[Any]"


@dataclass(frozen=True)
class Compared:
    """The result, and what of each column was compared, for the report: texts as statistics."""

    result: DriftResult
    pairs: tuple[Pair, ...] = ()
    scores: Mapping[str, Score] = field(default_factory=dict)


def drift(
    reference: Sample,
    current: Sample,
    kinds: Mapping[str, Kind],
    settings: Drift,
    *,
    regression: bool = False,
) -> Compared:
    """kinds: of the columns to compare. A column that the window has not, or has no value of, has
    drifted; what is wrong with a column is a note, and never an error."""
    rows, known = len(current.features), len(reference.features)
    if rows < settings.min_rows or known < MIN_REFERENCE_ROWS:
        return Compared(_not_enough(rows, known, settings))
    notes = list(strangers(kinds, reference.features, current.features))
    columns: list[ColumnDrift] = []
    pairs: list[Pair] = []
    scores: dict[str, Score] = {}
    for name, kind in kinds.items():
        if name not in reference.features.columns:
            continue
        made = _column(name, kind, reference.features, current.features, settings.threshold)
        columns.append(made.drift)
        notes += made.notes
        pairs += made.pairs
        scores.update(made.scores)
    predicted = _prediction(reference, current, settings.prediction_threshold, regression)
    notes += predicted.notes
    result = _verdict(columns, predicted.drift, notes, (rows, known), settings)
    return Compared(result, (*pairs, *predicted.pairs), {**scores, **predicted.scores})


@dataclass(frozen=True)
class _Column:
    drift: ColumnDrift
    notes: tuple[Note, ...] = ()
    pairs: tuple[Pair, ...] = ()
    scores: Mapping[str, Score] = field(default_factory=dict)


def _column(
    name: str, kind: Kind, reference: "pd.DataFrame", current: "pd.DataFrame", threshold: float
) -> _Column:
    if name not in current.columns:
        drifted = ColumnDrift(name=name, kind=kind, score=None, limit=threshold, drifted=True)
        return _Column(drifted)
    return _compared(pair(name, kind, column(reference, name), column(current, name)), threshold)


def _prediction(reference: Sample, current: Sample, threshold: float, regression: bool) -> _Column:
    kind: Kind = "number" if regression else "category"
    answers = [sample.predictions.reset_index(drop=True) for sample in (reference, current)]
    return _compared(pair(PREDICTION, kind, answers[0], answers[1]), threshold)


def _compared(both: Pair, threshold: float) -> _Column:
    empty = [sample_is_empty(values) for values in (both.reference, both.current)]
    if any(empty):
        notes = both.notes
        if empty[0]:
            text = "has no value in the reference: it cannot be compared"
            notes = (*notes, Note(both.name, "warning", text))
        # One that was always empty, and is so still, is as it was.
        made = ColumnDrift(
            name=both.name,
            kind=both.kind,
            score=None,
            limit=threshold,
            drifted=empty[1] and not empty[0],
        )
        return _Column(made, notes)
    scored = list(_scores(both, threshold))
    worst, score = max(scored, key=lambda item: item[1].score - item[1].limit)
    made = ColumnDrift(
        name=both.name,
        kind=both.kind,
        score=score.score,
        limit=score.limit,
        drifted=score.drifted,
        statistic=worst.name.removeprefix(f"{both.name}: ") if both.kind == "text" else None,
    )
    return _Column(
        made, both.notes, tuple(one for one, _ in scored), {one.name: s for one, s in scored}
    )


def sample_is_empty(values: Any) -> bool:
    """Whether no row has a value."""
    import pandas as pd

    return bool(pd.isna(values).all())


def _scores(both: Pair, threshold: float) -> Iterator[tuple[Pair, Score]]:
    """The column's own score, or that of each statistic of a text."""
    if both.kind == "text":
        before, now = statistics(both.reference, both.current)
        for name in before.columns:
            # Texts of the training data that come back have fewer unknown words: that is no drift.
            if name == UNKNOWN_WORDS and now[name].mean() <= before[name].mean():
                continue
            if before[name].notna().any() and now[name].notna().any():
                of_text = Pair(
                    f"{both.name}: {name}", "number", _floats(before[name]), _floats(now[name])
                )
                counts = number_counts(of_text.reference, of_text.current)
                yield of_text, psi_score(*counts, threshold, len(STATISTICS))
    elif both.kind == "number":
        yield both, psi_score(*number_counts(both.reference, both.current), threshold)
    else:
        yield both, psi_score(*category_counts(both.reference, both.current), threshold)


def _floats(values: "pd.Series[Any]") -> Floats:
    return values.to_numpy(dtype="float64")


def _not_enough(rows: int, known: int, settings: Drift) -> DriftResult:
    reason = f"not enough data: {rows} rows in the window, {settings.min_rows} are needed"
    if rows >= settings.min_rows:
        reason = f"not enough data: {known} rows in the reference, {MIN_REFERENCE_ROWS} are needed"
    return DriftResult(verdict="not_enough_data", reason=reason, rows=rows, reference_rows=known)


def _verdict(
    columns: list[ColumnDrift],
    prediction: ColumnDrift,
    notes: list[Note],
    rows: tuple[int, int],
    settings: Drift,
) -> DriftResult:
    drifted = [found.name for found in columns if found.drifted]
    share = len(drifted) / len(columns) if columns else 0.0
    texts = [found for found in columns if found.kind == "text"]
    checks = {"prediction_drift": not prediction.drifted}
    if columns:
        checks["data_drift"] = share <= settings.max_drifted_share
    if texts:
        checks["text_drift"] = not any(found.drifted for found in texts)
    words = [f"{len(drifted)} of {len(columns)} columns have drifted"]
    if drifted:
        words[0] += f" ({', '.join(drifted[:5])}{', …' if len(drifted) > 5 else ''})"
    words.append("the predictions have drifted" if prediction.drifted else "predictions have not")
    return DriftResult(
        verdict="passed" if all(checks.values()) else "failed",
        reason="; ".join(words),
        rows=rows[0],
        reference_rows=rows[1],
        share=share,
        columns=tuple(columns),
        prediction=prediction,
        notes=tuple(notes),
        checks=checks,
    )
