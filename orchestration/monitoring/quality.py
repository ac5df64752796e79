"""How good the answers were, once their labels are known: a table in, a result out."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deploy.drift_result import Note
from deploy.findings import Status
from orchestration.monitoring.columns import as_categories, as_numbers
from serving_config.monitoring import Quality

if TYPE_CHECKING:
    import pandas as pd

_BINS, _MAX_VALUES, _MAX_NAMED = 10, 20, 5
_ROUNDED = 1e-5
LOWER_IS_BETTER = ("rmse",)


@dataclass(frozen=True)
class Reliability:
    """Of the answers whose highest probability lies in one tenth: its mean, and how many were
    right (accuracy, 0 to 1)."""

    rows: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Slice:
    """The metrics of one part of the rows: an input's value, or a quartile of it."""

    column: str
    value: str
    rows: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class QualityResult:
    """rows: labelled answers that count; passed: None without a verdict or without a limit."""

    verdict: Status
    reason: str
    rows: int
    metrics: dict[str, float] = field(default_factory=dict)
    slices: tuple[Slice, ...] = ()
    reliability: tuple[Reliability, ...] = ()
    notes: tuple[Note, ...] = ()


def quality(
    answers: "pd.DataFrame",
    settings: Quality,
    *,
    regression: bool,
    classes: Sequence[str] = (),
    unmatched: int = 0,
) -> QualityResult:
    """answers: `prediction` and `truth` (texts, or numbers of a regression), `probability_<class>`
    where the model has them, and the inputs that `settings.slices` names.

    classes: those that the model knows, in its order; of two the second is the positive one.
    unmatched: labels for which the log has no answer.
    """
    notes = list(_unmatched(unmatched))
    usable, wrong = (_numbers if regression else _known)(answers, classes)
    notes += wrong
    rows = len(usable)
    if rows < settings.min_labels:
        reason = f"not enough data: {rows} labelled answers, {settings.min_labels} are needed"
        return QualityResult("not_enough_data", reason, rows, notes=tuple(notes))
    measured = _metrics(usable, regression, classes)
    bins = () if regression else tuple(_reliability(usable, classes))
    if bins:
        measured["calibration_error"] = sum(
            item.rows * abs(item.confidence - item.accuracy) for item in bins
        ) / sum(item.rows for item in bins)
    slices = tuple(_slices(usable, settings.slices, regression, classes, notes))
    verdict, reason = _verdict(measured, settings, rows)
    return QualityResult(verdict, reason, rows, measured, slices, bins, tuple(notes))


def _unmatched(count: int) -> Iterator[Note]:
    if count:
        yield Note("truth", "warning", f"{count} labels are of answers that the log does not have")


Usable = tuple["pd.DataFrame", list[Note]]


def _numbers(answers: "pd.DataFrame", _classes: Sequence[str]) -> Usable:
    import numpy as np

    named = ("prediction", "truth")
    numbers = answers.assign(**{name: as_numbers(answers[name]) for name in named})
    good = np.isfinite(numbers[["prediction", "truth"]].to_numpy(dtype="float64")).all(axis=1)
    return numbers[good], _left_out(int((~good).sum()), "are no finite numbers")


def _known(answers: "pd.DataFrame", classes: Sequence[str]) -> Usable:
    texts = answers["truth"].map(lambda value: value if isinstance(value, str) else None)
    told = answers["prediction"].map(lambda value: isinstance(value, str)).astype(bool)
    good = texts.isin(list(classes)) & told
    unknown = sorted(set(texts[~good].dropna()) - set(classes))
    shown = ", ".join(repr(name[:40]) for name in unknown[:_MAX_NAMED])
    more = f" ({shown}{', …' if len(unknown) > _MAX_NAMED else ''})" if unknown else ""
    return answers[good], _left_out(int((~good).sum()), f"are none of the model's classes{more}")


def _left_out(count: int, why: str) -> list[Note]:
    return [Note("truth", "error", f"{count} labels {why}: they do not count")] if count else []


def _metrics(rows: "pd.DataFrame", regression: bool, classes: Sequence[str]) -> dict[str, float]:
    import numpy as np

    truth, prediction = rows["truth"].to_numpy(), rows["prediction"].to_numpy()
    if regression:
        with np.errstate(over="ignore"):
            errors = np.abs(prediction - truth)
            found = {"rmse": float(np.sqrt(np.mean(errors**2))), "mae": float(np.mean(errors))}
        return {name: value for name, value in found.items() if math.isfinite(value)}
    found = {
        "accuracy": float(np.mean(truth == prediction)),
        "f1": _f1(truth, prediction, classes),
    }
    return found | _of_probabilities(rows, truth, classes)


def _f1(truth: Any, prediction: Any, classes: Sequence[str]) -> float:
    """Of the positive class where there are two; else the mean of the classes that came up."""
    scores = []
    for name in classes[1:] if len(classes) == 2 else classes:
        is_true, told = truth == name, prediction == name
        if named := int(is_true.sum() + told.sum()):
            scores.append(2 * int((is_true & told).sum()) / named)
    return sum(scores) / len(scores) if scores else 0.0


def _probabilities(rows: "pd.DataFrame", classes: Sequence[str]) -> Any:
    """(rows, classes) in their order, None where the log lacks any, or has what is none."""
    names = [f"probability_{name}" for name in classes]
    if not classes or any(name not in rows.columns for name in names):
        return None
    found = rows[names].to_numpy(dtype="float64")
    # A forest's votes, summed up in float32, may be a little more than 1.
    return found.clip(0, 1) if ((found > -_ROUNDED) & (found < 1 + _ROUNDED)).all() else None


def _of_probabilities(rows: "pd.DataFrame", truth: Any, classes: Sequence[str]) -> dict[str, float]:
    import numpy as np
    from sklearn.metrics import roc_auc_score

    given = _probabilities(rows, classes)
    if given is None:
        return {}
    hits = truth[:, None] == np.array(classes, dtype=object)[None, :]
    found = {"brier": float(np.mean(((given - hits) ** 2).sum(axis=1)))}
    # Of one class against the others each, weighted alike; a class that never came up has none.
    areas = [
        float(roc_auc_score(hits[:, i], given[:, i]))
        for i in ([1] if len(classes) == 2 else range(len(classes)))
        if 0 < hits[:, i].sum() < len(hits)
    ]
    return found | ({"roc_auc": float(np.mean(areas))} if areas else {})


def _reliability(rows: "pd.DataFrame", classes: Sequence[str]) -> Iterator[Reliability]:
    import numpy as np

    given = _probabilities(rows, classes)
    if given is None:
        return
    confidence = given.max(axis=1)
    right = (rows["truth"] == rows["prediction"]).to_numpy()
    places = np.clip((confidence * _BINS).astype(int), 0, _BINS - 1)
    for place in np.unique(places):
        inside = places == place
        yield Reliability(
            int(inside.sum()), float(confidence[inside].mean()), float(right[inside].mean())
        )


def _slices(
    rows: "pd.DataFrame",
    columns: Sequence[str],
    regression: bool,
    classes: Sequence[str],
    notes: list[Note],
) -> Iterator[Slice]:
    for name in columns:
        if name not in rows.columns:
            notes.append(Note(name, "warning", "is not in the log: there are no slices by it"))
            continue
        groups = _groups(rows[name])
        for value in list(dict.fromkeys(groups.dropna().sort_values()))[:_MAX_VALUES]:
            part = rows[(groups == value).fillna(False).to_numpy()]
            yield Slice(name, str(value), len(part), _metrics(part, regression, classes))


def _groups(values: "pd.Series[Any]") -> "pd.Series[Any]":
    """Of numbers the quartile, of others the value; `missing` where there is none."""
    import pandas as pd
    from pandas.api import types

    if types.is_numeric_dtype(values) and not types.is_bool_dtype(values) and values.nunique() > 4:
        numbers = pd.Series(as_numbers(values), index=values.index)
        edges = sorted({float(numbers.quantile(q)) for q in (0.25, 0.5, 0.75)})
        places = pd.Series([_quartile(value, edges) for value in numbers], index=values.index)
        return places.fillna("missing")
    return as_categories(values).set_axis(values.index).fillna("missing")


def _quartile(value: float, edges: Sequence[float]) -> str | None:
    if math.isnan(value):
        return None
    below = sum(edge < value for edge in edges)
    low = "" if below == 0 else f"> {edges[below - 1]:.4g}"
    high = "" if below == len(edges) else f"≤ {edges[below]:.4g}"
    return f"{below + 1}: {' and '.join(filter(None, (low, high)))}"


def _verdict(measured: dict[str, float], settings: Quality, rows: int) -> tuple[Status, str]:
    value = measured.get(settings.metric)
    if value is None:
        reason = f"not enough data: {settings.metric} is not defined for these {rows} answers"
        return "not_enough_data", reason
    shown = f"{settings.metric} is {value:.4g} over {rows} labelled answers"
    if settings.limit is None:
        return "passed", f"{shown}; no limit is set"
    lower = settings.metric in LOWER_IS_BETTER
    failed = value > settings.limit if lower else value < settings.limit
    words = "at most" if lower else "at least"
    return ("failed" if failed else "passed"), f"{shown}; {words} {settings.limit:.4g} is wanted"
