"""Where a model's answer changes: between labels and scores, known values, and texts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from orchestration.export.native import NativeModel
from orchestration.verification.rows import Space, Values

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]

_REFUSED_TOGETHER = 8
MAX_WORDS = 64  # pairs of texts


def scores_of(native: NativeModel, frame: "pd.DataFrame") -> Floats:
    """The model's scores; NaN in rows that it refuses (to within a few rows beside them)."""
    try:
        scores = native.scores(frame)
    except MemoryError:
        raise
    except Exception:  # every framework refuses with its own error
        if len(frame) <= _REFUSED_TOGETHER:
            return np.full((len(frame), 1), np.nan)
        half = len(frame) // 2
        halves = [scores_of(native, frame.iloc[:half]), scores_of(native, frame.iloc[half:])]
        width = max(part.shape[1] for part in halves)
        return np.concatenate([np.broadcast_to(p, (len(p), width)) for p in halves])
    with np.errstate(invalid="ignore"):
        return np.clip(scores, -1e300, 1e300)


def label_of(scores: Floats, native: NativeModel) -> npt.NDArray[np.intp]:
    """The class of each row; 0 for a regression."""
    if native.kind == "regression":
        return np.zeros(len(scores), dtype=np.intp)
    if scores.shape[1] == 1:
        return (scores[:, 0] > 0).astype(np.intp)
    best: npt.NDArray[np.intp] = scores.argmax(axis=1)
    return best


def known_values(space: Space, bases: Sequence[Values]) -> list[Values]:
    """Every known value of each text or boolean field, in two base rows."""
    rows: list[Values] = []
    for i, field in enumerate(space.contract.inputs):
        if i in space.numeric or field.text is not None:
            continue
        known = field.categories or space.values(i)
        for base in bases[:2]:
            rows.extend([*base[:i], value, *base[i + 1 :]] for value in list(known)[:50])
    return rows


def word_paths(native: NativeModel, space: Space, rng: np.random.Generator) -> list[Values]:
    """For pairs of texts: the number of words of one replaced by the other's that changes the
    answer most, found by bisection, and the texts on both sides."""
    rows: list[Values] = []
    for i, field in enumerate(space.contract.inputs):
        texts = [row for row in space.reference if row[i]]
        if field.text is None or len(texts) < 2:
            continue
        for _ in range(min(MAX_WORDS, len(texts))):
            a, b = (texts[int(k)] for k in rng.choice(len(texts), 2, replace=False))
            rows.extend(_word_path(native, a, b, i))
    return rows


def _word_path(native: NativeModel, a: Values, b: Values, i: int) -> list[Values]:
    first, second = str(a[i]).split(" "), str(b[i]).split(" ")

    def at(words: int) -> Values:
        mixed = " ".join(second[:words] + first[words:])
        return [*a[:i], mixed, *a[i + 1 :]]

    path = [at(k) for k in range(min(len(second), 24) + 1)]
    scores = scores_of(native, native.frame(path))
    if len(path) < 2:
        return path
    changes = np.abs(np.diff(scores, axis=0)).max(axis=1) + 10 * (
        np.diff(label_of(scores, native)) != 0
    )
    k = int(changes.argmax())
    return [path[k], path[k + 1]]
