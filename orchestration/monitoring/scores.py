"""One number for how good answers are, as the settings name it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy.challenge import Metric


class ScoreError(ValueError):
    """A metric that these answers have no value of."""


def as_text(label: Any) -> str:
    """A class as the log and Parquet files have it: `1` for 1, 1.0 and "1"."""
    whole = isinstance(label, float | np.floating) and float(label).is_integer()
    return str(int(label) if whole else label)


def score(
    metric: Metric,
    truth: Sequence[Any],
    predicted: Sequence[Any],
    probabilities: npt.NDArray[Any] | None = None,
    classes: Sequence[Any] = (),
) -> float:
    """truth, predicted: one value for each row; probabilities: (rows, classes).

    f1: of the second class where there are two, else the mean of all classes' (macro). roc_auc: the
    same, of each class that came up against the others. As live quality is measured. ScoreError
    where there is none.
    """
    if metric == "rmse":
        wrong = np.asarray(truth, dtype=float) - np.asarray(predicted, dtype=float)
        return float(np.sqrt(np.mean(wrong**2)))
    names = [as_text(item) for item in classes]
    true = [as_text(item) for item in truth]
    if metric == "roc_auc":
        return _roc_auc(true, probabilities, names)
    given = [as_text(item) for item in predicted]
    if metric == "accuracy":
        return float(np.mean([a == b for a, b in zip(true, given, strict=True)]))
    return _f1(true, given, names)


def _f1(truth: list[str], predicted: list[str], names: list[str]) -> float:
    from sklearn.metrics import f1_score

    if len(names) == 2:
        return float(f1_score(truth, predicted, pos_label=names[1], zero_division=0.0))
    return float(f1_score(truth, predicted, average="macro", zero_division=0.0))


def _roc_auc(truth: list[str], probabilities: npt.NDArray[Any] | None, names: list[str]) -> float:
    from sklearn.metrics import roc_auc_score

    if probabilities is None or probabilities.shape[1:] != (len(names),):
        raise ScoreError("roc_auc needs probabilities of all classes")
    hits = np.array([[label == name for name in names] for label in truth])
    areas = [
        roc_auc_score(hits[:, i], probabilities[:, i])
        for i in ([1] if len(names) == 2 else range(len(names)))
        if 0 < hits[:, i].sum() < len(hits)
    ]
    if not areas:
        raise ScoreError("roc_auc needs rows of more than one class")
    return float(np.mean(areas))
