"""Linear models and neural networks."""

from typing import Any

import numpy as np

from orchestration.export.data import Data, wide
from orchestration.export.errors import UnservableModel
from orchestration.export.graph import Graph, Tensor
from orchestration.export.registry import Scores, estimates
from orchestration.export.tree_models import linked

# A classifying network this large is computed in float32: twice as fast, and int8 needs it.
# Below, float64 costs microseconds and is exact.
FLOAT32_WEIGHTS = 100_000
# A row beyond is scaled down to it, as products of float32 overflow to inf - inf = NaN. Its
# direction stays, and a softmax is saturated long before.
FLOAT32_LARGEST = 1e12


@estimates(
    "LinearRegression",
    "Ridge",
    "RidgeCV",
    "Lasso",
    "LassoCV",
    "LassoLars",
    "LassoLarsCV",
    "Lars",
    "LarsCV",
    "ElasticNet",
    "ElasticNetCV",
    "SGDRegressor",
    "LinearSVR",
    "HuberRegressor",
    "BayesianRidge",
    "ARDRegression",
    "TheilSenRegressor",
    "OrthogonalMatchingPursuit",
    "QuantileRegressor",
    "PassiveAggressiveRegressor",
    "PoissonRegressor",
    "GammaRegressor",
)
def linear_regressor(step: Any, data: Data, graph: Graph) -> Tensor:
    """x coef + intercept, through exp for a log link."""
    coefficients = np.asarray(step.coef_)
    if coefficients.size != wide(data, graph).width:
        raise UnservableModel("a regression with several outputs is not served; train one for each")
    value = graph.affine(wide(data, graph), coefficients.reshape(-1, 1), step.intercept_)
    logarithmic = type(step).__name__ in ("PoissonRegressor", "GammaRegressor")
    return graph.unary("Exp", value) if logarithmic else value


def _decision(step: Any, data: Data, graph: Graph) -> Tensor:
    return graph.affine(wide(data, graph), np.atleast_2d(step.coef_).T, step.intercept_)


@estimates("LogisticRegression", "LogisticRegressionCV", "LinearDiscriminantAnalysis")
def logistic(step: Any, data: Data, graph: Graph) -> Scores:
    """The logistic function of one decision value, or the softmax of several."""
    one_against_rest = getattr(step, "solver", "") == "liblinear" and len(step.classes_) > 2
    if one_against_rest or getattr(step, "multi_class", None) == "ovr":
        raise UnservableModel(
            f"{type(step).__name__} one against the rest is not served; train with solver='lbfgs'"
        )
    return linked(_decision(step, data, graph), graph)


@estimates(
    "LinearSVC",
    "RidgeClassifier",
    "RidgeClassifierCV",
    "Perceptron",
    "PassiveAggressiveClassifier",
    "SGDClassifier",
)
def linear_classifier(step: Any, data: Data, graph: Graph) -> Scores:
    """The class of the highest decision value; probabilities for SGD with log_loss only."""
    decision = _decision(step, data, graph)
    if hasattr(step, "predict_proba"):
        if decision.width > 1 or step.loss != "log_loss":
            raise UnservableModel(
                "SGDClassifier's probabilities are not served for several classes or other losses "
                "than log_loss; train LogisticRegression"
            )
        return linked(decision, graph)
    if decision.width > 1:
        return Scores(Scores.best_of(decision, graph).index, None)
    positive = Tensor(graph.apply("Greater", decision, 0.0).name, "bool", 1)
    flat = graph.node("Reshape", [positive.name, graph.constant([-1], "int64")])
    return Scores(graph.cast(Tensor(flat, "bool", 1), "int64").name, None)


def decision_function(step: Any, data: Data, graph: Graph) -> Tensor:
    """The decision values of a linear classifier, (rows, 1) for two classes."""
    if type(step).__module__.split(".")[0] != "sklearn" or not hasattr(step, "coef_"):
        raise UnservableModel(
            f"the decision function of {type(step).__name__} is not served; calibrate a linear "
            "model or one with predict_proba alone"
        )
    return _decision(step, data, graph)


_ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "logistic": "Sigmoid"}


def _layers(step: Any, data: Data, graph: Graph) -> Tensor:
    """The network up to its last affine layer."""
    x = wide(data, graph)
    if hasattr(step, "classes_") and sum(w.size for w in step.coefs_) > FLOAT32_WEIGHTS:
        x = graph.cast(_scaled_down(x, graph), "float32")
    last = len(step.coefs_) - 1
    for i, (weights, bias) in enumerate(zip(step.coefs_, step.intercepts_, strict=True)):
        x = graph.affine(x, weights, bias)
        if i < last and step.activation in _ACTIVATIONS:
            x = graph.unary(_ACTIVATIONS[step.activation], x)
    return x


def _scaled_down(x: Tensor, graph: Graph) -> Tensor:
    """Rows with a number beyond FLOAT32_LARGEST over a common factor; others times 1."""
    limit = graph.constant(np.array([[FLOAT32_LARGEST]]))
    axis = graph.constant([1], "int64")
    largest = graph.node("ReduceMax", [graph.unary("Abs", x).name, axis], keepdims=1)
    factor = graph.node("Div", [limit, graph.node("Max", [largest, limit])])
    return Tensor(graph.node("Mul", [x.name, factor]), x.dtype, x.width)


@estimates("MLPClassifier")
def mlp_classifier(step: Any, data: Data, graph: Graph) -> Scores:
    """The network through the logistic function or the softmax."""
    if step.out_activation_ == "logistic" and len(step.classes_) > 2:
        raise UnservableModel("an MLPClassifier with several labels a row is not served")
    return linked(_layers(step, data, graph), graph)


@estimates("MLPRegressor")
def mlp_regressor(step: Any, data: Data, graph: Graph) -> Tensor:
    """The network's value."""
    value = _layers(step, data, graph)
    if value.width != 1:
        raise UnservableModel("a regression with several outputs is not served; train one for each")
    return graph.unary("Exp", value) if step.out_activation_ == "exponential" else value
