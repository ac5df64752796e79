"""How good the answers of two versions are, and how far they agree."""

from typing import Any

import numpy as np
import numpy.typing as npt

from bentos.model_server.contract import Outputs
from bentos.model_server.session import Predictions
from deploy.challenge import Metric
from orchestration.compare.documents import Agreement
from orchestration.monitoring.scores import ScoreError, as_text, score

Floats = npt.NDArray[np.float64]


def quality(truth: list[Any], answers: Predictions, outputs: Outputs) -> dict[str, float | None]:
    """Every metric that suits; None where there is no value of one."""
    names: tuple[Metric, ...] = ("rmse",)
    if outputs.kind == "classification":
        names = ("accuracy", "f1", "roc_auc")
    found: dict[str, float | None] = {}
    for name in names:
        try:
            found[name] = score(name, truth, answers.labels, answers.probabilities, outputs.labels)
        except ScoreError:
            found[name] = None
    return found


def agreement(a: Predictions, b: Predictions, outputs: tuple[Outputs, Outputs]) -> Agreement:
    """Of answers to the same rows."""
    pair = scores(a, b, outputs)
    apart = None if pair is None else np.abs(pair[0] - pair[1])
    equal = None
    if outputs[0].kind == "classification":
        labels = zip(map(as_text, a.labels), map(as_text, b.labels), strict=True)
        equal = float(np.mean([first == second for first, second in labels]))
    return Agreement(
        equal,
        None if apart is None else float(apart.mean()),
        None if apart is None else float(apart.max()),
    )


def scores(
    a: Predictions, b: Predictions, outputs: tuple[Outputs, Outputs]
) -> tuple[Floats, Floats] | None:
    """(rows, k) of both: probabilities with the classes in the same order, or the values; None
    where they have nothing in common."""
    if outputs[0].kind == "regression":
        first, second = (np.asarray(s.labels, dtype=np.float64).reshape(-1, 1) for s in (a, b))
        return first, second
    names = [[as_text(label) for label in side.labels] for side in outputs]
    if a.probabilities is None or b.probabilities is None or set(names[0]) != set(names[1]):
        return None
    order = [names[1].index(name) for name in names[0]]
    return a.probabilities.astype(np.float64), b.probabilities.astype(np.float64)[:, order]
