"""Both answers to the same rows, and how far they are apart."""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bentos.model_server.certificate import Comparison, Limits, WorstRow
from bentos.model_server.contract import Contract, Scalar
from bentos.model_server.session import Predictions
from orchestration.export.native import NativeModel
from orchestration.verification.rows import Values

Kind = Literal["reference", "thresholds", "edges"]

WORST = 20
_LONGEST_TEXT = 200  # of a text in the table of worst rows
_DIFFERENT = sys.float_info.max  # where no number says how far apart two answers are


@dataclass(frozen=True)
class Answered:
    """One row with its answer; None where the model refused it."""

    label: Any
    probabilities: tuple[float, ...] | None


@dataclass(frozen=True)
class Compared:
    """One kind of rows, compared."""

    comparison: Comparison
    rows: tuple[Values, ...]
    worst: tuple[WorstRow, ...]


def answers(
    predict: Callable[[Sequence[Values]], Predictions], rows: Sequence[Values]
) -> list[Answered | None]:
    """The answers to all rows. Where a batch is refused, it is halved until the rows that the
    model does not accept are found; these are None."""
    if not rows:
        return []
    try:
        result = predict(rows)
    except Exception:  # every framework refuses with its own error  # noqa: BLE001
        if len(rows) == 1:
            return [None]
        half = len(rows) // 2
        return [*answers(predict, rows[:half]), *answers(predict, rows[half:])]
    probabilities = result.probabilities
    if probabilities is None:
        return [Answered(label, None) for label in result.labels]
    table = np.asarray(probabilities, dtype=np.float64).tolist()
    return [Answered(label, tuple(p)) for label, p in zip(result.labels, table, strict=True)]


def difference(expected: Answered, actual: Answered | None, regression: bool) -> float:
    """Largest difference of a probability, or of the value relative to max(1, |value|).

    NaN against a number is as different as can be; NaN against NaN in the same place is equal.
    Without probabilities, another label counts as 1.
    """
    if actual is None:
        return _DIFFERENT
    if regression:
        return _apart(float(expected.label), float(actual.label), relative=True)
    if expected.probabilities is None or actual.probabilities is None:
        return 0.0 if expected.label == actual.label else 1.0
    if len(expected.probabilities) != len(actual.probabilities):
        return _DIFFERENT
    pairs = zip(expected.probabilities, actual.probabilities, strict=True)
    return max((_apart(a, b, relative=False) for a, b in pairs), default=0.0)


def _apart(expected: float, actual: float, relative: bool) -> float:
    if expected == actual or (math.isnan(expected) and math.isnan(actual)):
        return 0.0
    if not (math.isfinite(expected) and math.isfinite(actual)):
        return _DIFFERENT
    apart = abs(expected - actual)
    return min(apart / max(1.0, abs(expected)) if relative else apart, _DIFFERENT)


def compare(
    kind: Kind, rows: Sequence[Values], native: NativeModel, predict: Any, contract: Contract,
    limits: Limits,
) -> Compared:  # fmt: skip
    """Every row that the trained model answers. What it refuses has no right answer and is left
    out; what the graph alone refuses is as different as can be."""
    regression = contract.outputs.kind == "regression"
    expected_all = answers(native.predict, rows)
    kept = [(row, e) for row, e in zip(rows, expected_all, strict=True) if e is not None]
    actual_all = answers(predict, [row for row, _ in kept])
    flips = ties = 0
    found: list[tuple[float, bool, int, WorstRow]] = []
    differences = []
    undecided = _undecided(native, [row for row, _ in kept], limits.tolerance, regression)
    for i, ((row, expected), actual) in enumerate(zip(kept, actual_all, strict=True)):
        apart = difference(expected, actual, regression)
        other = not regression and (actual is None or actual.label != expected.label)
        tie = other and actual is not None and bool(undecided[i])
        if tie and expected.probabilities is None:
            apart = 0.0
        differences.append(apart)
        flips, ties = flips + (other and not tie), ties + tie
        if apart > 0 or other:
            row_of = worst_row(kind, row, contract, apart, expected, actual)
            found.append((-apart, not other, i, row_of))
    found.sort(key=lambda entry: (entry[1] or entry[0] > -limits.tolerance, entry[0], entry[2]))
    comparison = Comparison(
        kind, len(kept), max(differences, default=0.0),
        sum(d > limits.tolerance for d in differences), flips, ties,
    )  # fmt: skip
    worst = tuple(entry[3] for entry in found[:WORST])
    return Compared(comparison, tuple(row for row, _ in kept), worst)


def _undecided(
    native: NativeModel, rows: Sequence[Values], tolerance: float, regression: bool
) -> npt.NDArray[np.bool_]:
    """Rows whose two best scores lie within the tolerance (for decision values: relative)."""
    if regression or not rows:
        return np.zeros(len(rows), dtype=bool)
    scores = native.scores(native.frame(rows))
    if scores.shape[1] == 1:
        return np.asarray(np.abs(scores[:, 0]) <= tolerance)
    best = np.sort(scores, axis=1)
    scale = np.maximum(1.0, np.abs(best[:, -1]))
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(best[:, -1] - best[:, -2] <= tolerance * scale)


def worst_row(
    kind: str, row: Values, contract: Contract, apart: float, expected: Answered,
    actual: Answered | None,
) -> WorstRow:  # fmt: skip
    """A line of the table; what JSON cannot hold (NaN) is left out of it."""
    features = {f.name: _short(v) for f, v in zip(contract.inputs, row, strict=True)}
    return WorstRow(
        kind, features, apart, finite(expected.label), None if actual is None else
        finite(actual.label), _finite(expected), None if actual is None else _finite(actual),
    )  # fmt: skip


def finite(value: Scalar) -> Scalar:
    """The value, or None for a float that JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _finite(answer: Answered) -> tuple[float, ...] | None:
    values = answer.probabilities
    return values if values is not None and all(map(math.isfinite, values)) else None


def _short(value: Scalar) -> Scalar:
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        return value[:_LONGEST_TEXT] + "…"
    return value
