"""Ensembles of any estimators: votes, bags, AdaBoost, stacks, calibration."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from orchestration.export.data import Data, wide
from orchestration.export.errors import UnservableModel
from orchestration.export.functions import function
from orchestration.export.graph import Graph, Tensor
from orchestration.export.registry import Scores, estimates
from orchestration.export.tree_models import complement


def _member(step: Any, data: Data, graph: Graph) -> Tensor | Scores:
    from orchestration.export.compose import estimate

    return estimate(step, data, graph)


def _classifier(step: Any, data: Data, graph: Graph) -> Scores:
    result = _member(step, data, graph)
    if isinstance(result, Tensor):
        raise UnservableModel(f"{type(step).__name__} is no classifier, but votes on classes")
    return result


def _probabilities(step: Any, data: Data, graph: Graph) -> Tensor:
    scores = _classifier(step, data, graph)
    if scores.probabilities is None:
        raise UnservableModel(
            f"{type(step).__name__} in an ensemble has no probabilities; use one that has"
        )
    return graph.cast(scores.probabilities, "float64")


def _value(step: Any, data: Data, graph: Graph) -> Tensor:
    result = _member(step, data, graph)
    if isinstance(result, Scores):
        raise UnservableModel(f"{type(step).__name__} is no regressor, but part of a regression")
    return graph.cast(result, "float64")


def _mean(parts: Sequence[Tensor], weights: Sequence[float] | None, graph: Graph) -> Tensor:
    """Summed in the order of the members, then divided."""
    factors = [1.0] * len(parts) if weights is None else [float(w) for w in weights]
    total: Tensor | None = None
    for part, factor in zip(parts, factors, strict=True):
        term = part if factor == 1.0 else graph.apply("Mul", part, factor)
        if total is None:
            total = term
        else:
            total = Tensor(graph.node("Add", [total.name, term.name]), "float64", term.width)
    if total is None:
        raise UnservableModel("an ensemble without members cannot be served")
    return graph.apply("Div", total, float(np.sum(factors)))


@estimates("VotingClassifier")
def voting_classifier(step: Any, data: Data, graph: Graph) -> Scores:
    """The weighted mean of the members' probabilities."""
    if step.voting != "soft":
        raise UnservableModel("VotingClassifier is served with voting='soft'; train it so")
    parts = [_probabilities(member, data, graph) for member in step.estimators_]
    return Scores.best_of(_mean(parts, step._weights_not_none, graph), graph)


@estimates("VotingRegressor")
def voting_regressor(step: Any, data: Data, graph: Graph) -> Tensor:
    """The weighted mean of the members' values."""
    parts = [_value(member, data, graph) for member in step.estimators_]
    return _mean(parts, step._weights_not_none, graph)


def _drawn(step: Any, data: Data, graph: Graph) -> list[Data]:
    """Each member's columns."""
    x = wide(data, graph)
    return [graph.select(x, [int(i) for i in f]) for f in step.estimators_features_]


@estimates("BaggingClassifier")
def bagging_classifier(step: Any, data: Data, graph: Graph) -> Scores:
    """The mean of the members' probabilities."""
    if any(len(member.classes_) != len(step.classes_) for member in step.estimators_):
        raise UnservableModel(
            "a member of the BaggingClassifier has not seen every class; train with more samples"
        )
    pairs = zip(step.estimators_, _drawn(step, data, graph), strict=True)
    return Scores.best_of(
        _mean([_probabilities(m, x, graph) for m, x in pairs], None, graph), graph
    )


@estimates("BaggingRegressor")
def bagging_regressor(step: Any, data: Data, graph: Graph) -> Tensor:
    """The mean of the members' values."""
    pairs = zip(step.estimators_, _drawn(step, data, graph), strict=True)
    return _mean([_value(member, x, graph) for member, x in pairs], None, graph)


@estimates("AdaBoostClassifier")
def ada_boost(step: Any, data: Data, graph: Graph) -> Scores:
    """SAMME: each member votes +w for its class and -w/(K-1) for the others."""
    classes = len(step.classes_)
    x = wide(data, graph)
    votes = []
    weights = step.estimator_weights_[: len(step.estimators_)]
    for member, weight in zip(step.estimators_, weights, strict=True):
        table = np.full((classes, classes), -weight / (classes - 1))
        np.fill_diagonal(table, weight)
        index = _classifier(member, x, graph).index
        name = graph.node("Gather", [graph.constant(table), index], axis=0)
        votes.append(Tensor(name, "float64", classes))
    mean = _mean(votes, None, graph)
    decision = graph.apply("Mul", mean, len(votes) / float(step.estimator_weights_.sum()))
    # two classes: the decision is the difference of the votes, and softmax gets half of it
    scale = 1.0 if classes == 2 else 1.0 / (classes - 1)
    softmax = graph.node("Softmax", [graph.apply("Mul", decision, scale).name], axis=1)
    return Scores.best_of(Tensor(softmax, "float64", classes), graph)


@estimates("StackingClassifier")
def stacking_classifier(step: Any, data: Data, graph: Graph) -> Scores:
    """The members' probabilities into the final estimator."""
    if set(step.stack_method_) != {"predict_proba"}:
        raise UnservableModel("StackingClassifier is served with predict_proba of all members")
    parts = []
    for member in step.estimators_:
        p = _probabilities(member, data, graph)
        parts.append(graph.select(p, [1]) if p.width == 2 else p)
    return _classifier(step.final_estimator_, _stack(step, parts, data, graph), graph)


@estimates("StackingRegressor")
def stacking_regressor(step: Any, data: Data, graph: Graph) -> Tensor:
    """The members' values into the final estimator."""
    parts = [_value(member, data, graph) for member in step.estimators_]
    return _value(step.final_estimator_, _stack(step, parts, data, graph), graph)


def _stack(step: Any, parts: list[Tensor], data: Data, graph: Graph) -> Tensor:
    return graph.concat([*parts, wide(data, graph)] if step.passthrough else parts)


@estimates("CalibratedClassifierCV")
def calibrated(step: Any, data: Data, graph: Graph) -> Scores:
    """The mean over the folds of each one's sigmoid-calibrated probabilities."""
    if step.method != "sigmoid" or len(step.classes_) != 2:
        raise UnservableModel(
            "CalibratedClassifierCV is served with method='sigmoid' and two classes; train it so"
        )
    parts = []
    for fold in step.calibrated_classifiers_:
        (calibrator,) = fold.calibrators
        score = _calibration_input(fold.estimator, data, graph)
        # _SigmoidCalibration.predict: expit(-(a * x + b))
        score = graph.apply("Add", graph.apply("Mul", score, calibrator.a_), calibrator.b_)
        parts.append(complement(graph.unary("Sigmoid", graph.unary("Neg", score)), graph))
    return Scores.best_of(_mean(parts, None, graph), graph)


def _calibration_input(step: Any, data: Data, graph: Graph) -> Tensor:
    """decision_function where the estimator has one, else the second probability."""
    from orchestration.export.estimators import decision_function

    if hasattr(step, "decision_function"):
        return decision_function(step, data, graph)
    return graph.select(_probabilities(step, data, graph), [1])


@estimates("TransformedTargetRegressor")
def transformed_target(step: Any, data: Data, graph: Graph) -> Tensor:
    """The regressor's value through the inverse of the target's transformer."""
    value, transformer = _value(step.regressor_, data, graph), step.transformer_
    if type(transformer).__name__ == "StandardScaler":
        if transformer.with_std:
            value = graph.apply("Mul", value, transformer.scale_)
        return graph.apply("Add", value, transformer.mean_) if transformer.with_mean else value
    if type(transformer).__name__ == "FunctionTransformer":
        inverse = transformer.inverse_func
        return value if inverse is None else function(inverse, value, graph)
    raise UnservableModel(
        f"TransformedTargetRegressor with {type(transformer).__name__} is not served; use "
        "StandardScaler, or func=numpy.log1p with inverse_func=numpy.expm1"
    )
