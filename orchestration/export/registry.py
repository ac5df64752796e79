"""Which function converts which scikit-learn class, by exact class."""

from collections.abc import Callable
from typing import Any, TypeVar

from orchestration.export.data import Data
from orchestration.export.graph import Graph, Tensor

Transform = Callable[[Any, Data, Graph], Data]
Estimate = Callable[[Any, Data, Graph], "Tensor | Scores"]

F = TypeVar("F", bound=Callable[..., Any])

TRANSFORMERS: dict[str, Transform] = {}
ESTIMATORS: dict[str, Estimate] = {}


class Scores:
    """A classifier's output: the index of the class, and the probabilities if it has them.

    index: name of an int64 tensor (rows,); probabilities: (rows, classes) or None.
    """

    def __init__(self, index: str, probabilities: Tensor | None) -> None:
        self.index = index
        self.probabilities = probabilities

    @classmethod
    def best_of(cls, probabilities: Tensor, graph: Graph) -> "Scores":
        """The first class of the highest probability, as NumPy's argmax."""
        index = graph.node("ArgMax", [probabilities.name], axis=1, keepdims=0)
        return cls(index, probabilities)


def qualified(step: object) -> str:
    """`package.Class` of a fitted step: `sklearn.StandardScaler`, `xgboost.XGBClassifier`."""
    return f"{type(step).__module__.split('.')[0]}.{type(step).__name__}"


def transforms(*classes: str) -> Callable[[F], F]:
    """Register the converter of transformers, named as `qualified` names them."""

    def register(function: F) -> F:
        TRANSFORMERS.update(dict.fromkeys((f"sklearn.{c}" for c in classes), function))
        return function

    return register


def estimates(*classes: str) -> Callable[[F], F]:
    """Register the converter of estimators, named as `qualified` names them."""

    def register(function: F) -> F:
        ESTIMATORS.update(
            dict.fromkeys((c if "." in c else f"sklearn.{c}" for c in classes), function)
        )
        return function

    return register
