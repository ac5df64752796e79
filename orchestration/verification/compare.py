"""Both answers to the same rows, and how far they are apart."""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bentos.model_server.certificate import Comparison, Limits, WorstRow
from bentos.model_server.contract import FLOATS, Contract, Scalar
from bentos.model_server.session import Predictions
from orchestration.export.native import NativeModel
from orchestration.export.onnx_native import misnamed
from orchestration.verification.rows import Space, Values, unique

Kind = Literal["reference", "thresholds", "edges"]

WORST = 20
NEAR = 1e-12  # relative distance within which arithmetic may decide either way
MAX_NEAR = 300  # rows looked at so closely
_LONGEST_TEXT = 200  # of a text in the table of worst rows
_DIFFERENT = sys.float_info.max  # where no number says how far apart two answers are


@dataclass(frozen=True)
class Answered:
    """One row with its answer; None where the model refused it."""

    label: Any
    probabilities: tuple[float, ...] | None


@dataclass(frozen=True)
class Pair:
    """Both answers to one row.

    apart: their difference; flip: another label, or a misnamed one.
    misnamed: the graph's label is not the class that it gives the highest probability.
    """

    row: Values
    expected: Answered
    actual: Answered | None
    apart: float
    flip: bool
    misnamed: bool


@dataclass(frozen=True)
class Compared:
    """One kind of rows, compared. rows: those that both answered."""

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
    except MemoryError:
        raise
    except Exception:  # every framework refuses with its own error
        if len(rows) == 1:
            return [None]
        half = len(rows) // 2
        return [*answers(predict, rows[:half]), *answers(predict, rows[half:])]
    probabilities = result.probabilities
    if probabilities is None:
        return [Answered(label, None) for label in result.labels]
    table = np.asarray(probabilities, dtype=np.float64).tolist()
    return [Answered(label, tuple(p)) for label, p in zip(result.labels, table, strict=True)]


def is_sound(answer: Answered | None) -> bool:
    """There is an answer, and no number of it is NaN or infinite."""
    if answer is None:
        return False
    numbers = answer.probabilities
    if numbers is None:
        numbers = (answer.label,) if isinstance(answer.label, float) else ()
    return all(map(math.isfinite, numbers))


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
    kind: Kind,
    rows: Sequence[Values],
    native: NativeModel,
    predict: Any,
    space: Space,
    limits: Limits,
    *,
    made_up: Sequence[Values] = (),
) -> Compared:
    """Every row that the contract allows and the trained model answers.

    What these refuse has no right answer: it is counted, not compared. What the graph alone
    refuses is as different as can be. made_up: allowed rows to compare beside those given, of
    which a refusal does not count.
    """
    contract = space.contract
    allowed = space.only_allowed(rows)
    tried = [*allowed, *made_up]
    expected_all = answers(native.predict, tried)
    kept = [(row, e) for row, e in zip(tried, expected_all, strict=True) if e is not None]
    of_given = sum(e is not None for e in expected_all[: len(allowed)])
    actual_all = answers(predict, [row for row, _ in kept])
    pairs = [
        _pair(row, expected, actual, native, contract, limits)
        for (row, expected), actual in zip(kept, actual_all, strict=True)
    ]
    ties = undecided(pairs, native, contract, limits.tolerance, near=kind != "reference")
    differing = [p for i, p in enumerate(pairs) if i not in ties and (p.apart > 0 or p.flip)]
    apart = [0.0 if i in ties else p.apart for i, p in enumerate(pairs)]
    comparison = Comparison(
        kind,
        len(pairs),
        max(apart, default=0.0),
        sum(d > limits.tolerance for d in apart),
        sum(p.flip for p in differing),
        len(ties),
        len(unique(rows)) - of_given,
        len(kept) - of_given,
    )
    differing.sort(key=lambda p: (-p.apart, not p.flip))
    worst = tuple(worst_row(kind, p, contract) for p in differing[:WORST])
    return Compared(comparison, tuple(p.row for p in pairs if p.actual is not None), worst)


def _pair(
    row: Values,
    expected: Answered,
    actual: Answered | None,
    native: NativeModel,
    contract: Contract,
    limits: Limits,
) -> Pair:
    outputs = contract.outputs
    regression = outputs.kind == "regression"
    # Both answers of a logged graph come from one file: only its own answer can show wrong names.
    wrong_name = (
        native.flavor == "onnx"
        and actual is not None
        and actual.probabilities is not None
        and misnamed(outputs.labels, actual.label, actual.probabilities, limits.tolerance)
    )
    another = not regression and (actual is None or actual.label != expected.label)
    apart = difference(expected, actual, regression)
    return Pair(row, expected, actual, apart, another or wrong_name, wrong_name)


def undecided(
    pairs: Sequence[Pair],
    native: NativeModel,
    contract: Contract,
    tolerance: float,
    *,
    near: bool,
) -> set[int]:
    """The places of the rows that no arithmetic can decide.

    Another label where the trained model's two best probabilities (or decision values) are equal
    within the tolerance, with probabilities that are; or, if `near`, the very answer that the
    trained model gives to a row within 1e-12 of this one (see `_near`). That is for rows that were
    put beside a threshold on purpose: on a row of the reference data every difference counts. A
    misnamed label is never a tie.
    """
    differing = [
        i
        for i, p in enumerate(pairs)
        if p.actual and not p.misnamed and (p.flip or p.apart > tolerance)
    ]
    if not differing:
        return set()
    ties = set()
    if contract.outputs.kind == "classification":
        for i, close in zip(
            differing, _best_are_close(native, pairs, differing, tolerance), strict=True
        ):
            if close and (pairs[i].apart <= tolerance or pairs[i].expected.probabilities is None):
                ties.add(i)
    if not near:
        return ties
    rest = [i for i in differing if i not in ties][:MAX_NEAR]
    return ties | {i for i in rest if _near(pairs[i], native, contract, tolerance)}


def _near(pair: Pair, native: NativeModel, contract: Contract, tolerance: float) -> bool:
    """Whether the trained model gives the graph's answer when one number moves by 1e-12.

    A logarithm or a sum of products may differ in its last bits between NumPy and ONNX Runtime;
    where the next threshold lies between the two results, neither is wrong. A rounding to
    float32 (6e-8) is not excused.
    """
    moved = [
        [
            *pair.row[:i],
            value + sign * max(abs(value) * NEAR, 4 * math.ulp(value)),
            *pair.row[i + 1 :],
        ]
        for i, (field, value) in enumerate(zip(contract.inputs, pair.row, strict=True))
        if field.dtype in FLOATS and isinstance(value, float)
        for sign in (-1, 1)
    ]
    regression = contract.outputs.kind == "regression"
    return any(
        answer is not None
        and difference(answer, pair.actual, regression) <= tolerance
        and (regression or (pair.actual is not None and answer.label == pair.actual.label))
        for answer in answers(native.predict, moved)
    )


def _best_are_close(
    native: NativeModel, pairs: Sequence[Pair], chosen: Sequence[int], tolerance: float
) -> npt.NDArray[np.bool_]:
    """Rows whose two best probabilities lie within the tolerance, else decision values relative
    to them; none where the model gives neither."""
    if pairs[0].expected.probabilities is None:
        scores = native.decisions(native.frame([pairs[i].row for i in chosen]))
        if scores is None:
            return np.zeros(len(chosen), dtype=np.bool_)
    else:
        scores = np.array([pairs[i].expected.probabilities for i in chosen])
    if scores.shape[1] == 1:
        return np.asarray(np.abs(scores[:, 0]) <= tolerance)
    best = np.sort(scores, axis=1)
    scale = np.maximum(1.0, np.abs(best[:, -1]))
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(best[:, -1] - best[:, -2] <= tolerance * scale)


def worst_row(kind: str, pair: Pair, contract: Contract) -> WorstRow:
    """A line of the table; what JSON cannot hold (NaN) is left out of it."""
    features = {f.name: _short(v) for f, v in zip(contract.inputs, pair.row, strict=True)}
    actual = pair.actual
    return WorstRow(
        kind,
        features,
        pair.apart,
        finite(pair.expected.label),
        None if actual is None else finite(actual.label),
        _finite(pair.expected),
        None if actual is None else _finite(actual),
    )


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
