"""Rows beside decision thresholds, found by asking the model alone.

Along a line through a row (one number moved over its range) the answer of a tree model jumps.
Each interval with a jump is bisected down to neighbouring float64 numbers, keeping the half with
the change of label, or with the larger change of scores. For smooth models this ends at the
label's boundary. Works for any model, without looking into it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bentos.model_server.contract import FLOATS
from orchestration.export.native import NativeModel
from orchestration.verification.changes import (
    Floats,
    known_values,
    label_of,
    scores_of,
    word_paths,
)
from orchestration.verification.compare import answers
from orchestration.verification.rows import Space, Values, number, spread

if TYPE_CHECKING:
    import pandas as pd

CANDIDATES = 64  # reference rows to choose from
BASE_ROWS = 8
OUTSIDE = (1, 10, 100)  # widths beyond the range
GRID = 24  # points on each line
MAX_LINES = 400
MAX_INTERVALS = 768
STEPS = 64  # halvings of a float64's 64 bits
RELATIVE_OFFSETS = (1e-9, 1e-6)


@dataclass(frozen=True)
class Lines:
    """Intervals to bisect: in row `base[k]`, number `field[k]` between low[k] and high[k]."""

    base: npt.NDArray[np.intp]
    field: npt.NDArray[np.intp]
    low: Floats
    high: Floats


def threshold_rows(native: NativeModel, space: Space, seed: int) -> list[Values]:
    """Rows on both sides of each threshold found, and a little beside them.

    The contract may refuse some of them."""
    rng = np.random.default_rng(seed)
    bases = list(spread(_answered(native, space), BASE_ROWS))
    if not bases:
        return []
    rows = [*word_paths(native, space, rng), *known_values(space, bases)]
    if space.numeric:
        intervals = _jumps(native, space, bases, rng)
        if not len(intervals.base):  # a small sample shows too little of the range
            intervals = _jumps(native, space, bases, rng, OUTSIDE)
        rows.extend(_beside(space, bases, _bisect(native, space, bases, intervals)))
    if not any(space.allows(row) for row in rows):
        rows.extend(bases)  # a model that answers the same everywhere has no thresholds
    return rows


def _answered(native: NativeModel, space: Space) -> list[Values]:
    """Base rows that the model itself accepts."""
    candidates = list(spread(space.bases, CANDIDATES))
    answered = answers(native.predict, candidates)
    return [row for row, a in zip(candidates, answered, strict=True) if a is not None]


def _frame(bases: "pd.DataFrame", lines: Lines, values: Floats) -> Any:
    """The base rows with each line's number replaced."""
    import pandas as pd

    columns = {}
    for i, name in enumerate(bases.columns):
        column = bases[name].to_numpy()[lines.base]
        moved = lines.field == i
        if moved.any():
            column = column.astype(column.dtype if column.dtype.kind in "fi" else np.float64)
            with np.errstate(over="ignore"):
                column[moved] = values[moved].astype(column.dtype)
        columns[name] = column
    return pd.DataFrame(columns)


def _jumps(
    native: NativeModel,
    space: Space,
    bases: Sequence[Values],
    rng: np.random.Generator,
    outside: tuple[int, ...] = (),
) -> Lines:
    """The intervals of a grid on every line between whose ends the scores differ."""
    frame = native.frame(bases)
    pairs = [(b, i) for i in space.numeric for b in range(len(bases))]
    if len(pairs) > MAX_LINES:
        pairs = [pairs[k] for k in np.sort(rng.choice(len(pairs), MAX_LINES, replace=False))]
    grids = [_grid(space, i, outside) for _, i in pairs]
    points = Lines(
        np.repeat([b for b, _ in pairs], [len(g) for g in grids]).astype(np.intp),
        np.repeat([i for _, i in pairs], [len(g) for g in grids]).astype(np.intp),
        np.concatenate(grids),
        np.concatenate(grids),
    )
    scores = scores_of(native, _frame(frame, points, points.low))
    line = np.repeat(np.arange(len(pairs)), [len(g) for g in grids])
    change = np.abs(np.diff(scores, axis=0)).max(axis=1)
    flips = (np.diff(label_of(scores, native)) != 0) & ~np.isnan(change)
    found = np.flatnonzero((line[1:] == line[:-1]) & ((change > 1e-12) | flips))
    # all changes of the label, and others at random up to the limit
    order = np.argsort(-flips[found].astype(float) + rng.random(len(found)) * 0.5, kind="stable")
    chosen = np.sort(found[order[:MAX_INTERVALS]])
    return Lines(
        points.base[chosen], points.field[chosen], points.low[chosen], points.low[chosen + 1]
    )


def _grid(space: Space, i: int, outside: tuple[int, ...]) -> Floats:
    """Points of a number's range: at even distances, at the reference's quantiles, and so many
    widths outside."""
    low, high = space.span(i)
    seen = np.array([float(v) for v in space.values(i) if v is not None])
    points = [np.linspace(low, high, GRID // 2)]
    if len(seen):
        points.append(np.quantile(seen, np.linspace(0, 1, GRID // 2)))
    width = max(high - low, abs(high), 1e-3)
    points.extend(np.array([low - width * k, high + width * k]) for k in outside)
    grid = np.concatenate(points)
    field = space.contract.inputs[i]
    if field.dtype not in FLOATS:
        grid = np.clip(np.round(grid), -(2**31), 2**31 - 1)
    least = -np.inf if field.minimum is None else field.minimum
    most = np.inf if field.maximum is None else field.maximum
    return np.unique(np.clip(grid, least, most))


def _ordinal(values: Floats) -> npt.NDArray[np.int64]:
    """float64 numbers as integers in the same order, neighbours one apart."""
    bits = np.ascontiguousarray(values + 0.0).view(np.int64)  # + 0.0 turns -0.0 into 0.0
    return np.where(bits < 0, np.int64(-(2**63)) - bits, bits)


def _from_ordinal(ordinals: npt.NDArray[np.int64]) -> Floats:
    bits = np.where(ordinals < 0, np.int64(-(2**63)) - ordinals, ordinals)
    return np.ascontiguousarray(bits).view(np.float64)


def _bisect(native: NativeModel, space: Space, bases: Sequence[Values], lines: Lines) -> Lines:
    """Each interval down to neighbouring numbers: floats one ulp, integers one apart."""
    if not len(lines.base):
        return lines
    frame = native.frame(bases)
    whole = np.array([space.contract.inputs[i].dtype not in FLOATS for i in lines.field])
    low = np.where(whole, lines.low.astype(np.int64), _ordinal(lines.low))
    high = np.where(whole, lines.high.astype(np.int64), _ordinal(lines.high))

    def value(places: npt.NDArray[np.int64]) -> Floats:
        return np.where(whole, places.astype(np.float64), _from_ordinal(places))

    def ask(places: npt.NDArray[np.int64]) -> Floats:
        return scores_of(native, _frame(frame, lines, value(places)))

    at_low, at_high = ask(low), ask(high)
    for _ in range(STEPS):
        middle = (low >> 1) + (high >> 1) + (low & high & 1)
        if (middle == low).all():
            break
        at_middle = ask(middle)
        left = _holds_the_jump(at_low, at_middle, at_high, native)
        stuck = middle == low
        high = np.where(left & ~stuck, middle, high)
        at_high = np.where((left & ~stuck)[:, None], at_middle, at_high)
        low = np.where(left | stuck, low, middle)
        at_low = np.where((left | stuck)[:, None], at_low, at_middle)
    return Lines(lines.base, lines.field, value(low), value(high))


def _holds_the_jump(
    low: Floats, middle: Floats, high: Floats, native: NativeModel
) -> npt.NDArray[np.bool_]:
    """Whether to go on with the left half: where the label changes, else the larger change."""
    labels = [label_of(s, native) for s in (low, middle, high)]
    larger = np.abs(middle - low).max(axis=1) >= np.abs(high - middle).max(axis=1)
    changes = labels[0] != labels[2]
    result: npt.NDArray[np.bool_] = np.where(changes, labels[0] != labels[1], larger)
    return result


def _beside(space: Space, bases: Sequence[Values], lines: Lines) -> list[Values]:
    """Both neighbours, one ulp of float32 further, and two relative offsets each way."""
    rows = []
    for b, i, low, high in zip(lines.base, lines.field, lines.low, lines.high, strict=True):
        field = space.contract.inputs[i]
        for value in _offsets(float(low), float(high)):
            row = list(bases[b])
            row[i] = number(field, value)
            rows.append(row)
    return rows


def _offsets(low: float, high: float) -> list[float]:
    with np.errstate(over="ignore", under="ignore"):
        narrow = np.float32(low)
        beside = [
            float(np.nextafter(narrow, np.float32(-np.inf))),
            float(narrow),
            float(np.nextafter(narrow, np.float32(np.inf))),
        ]
    further = [low * (1 + sign * o) for o in RELATIVE_OFFSETS for sign in (-1, 1)]
    return [low, high, *beside, *further]
