"""Decision trees, forests and gradient boosting of scikit-learn."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from orchestration.export.categorical import encoder
from orchestration.export.data import Data, Table, wide
from orchestration.export.errors import UnservableModel
from orchestration.export.graph import Graph, Tensor
from orchestration.export.registry import Scores, estimates
from orchestration.export.trees import Forest, add_hist_tree, add_sklearn_tree


def complement(positive: Tensor, graph: Graph) -> Tensor:
    """(rows, 1) probabilities of the second class to (rows, 2)."""
    one = graph.constant(np.asarray([[1.0]], dtype=positive.dtype))
    negative = Tensor(graph.node("Sub", [one, positive.name]), positive.dtype, 1)
    return graph.concat([negative, positive])


def _as_trees_see(data: Data, graph: Graph) -> Tensor:
    """Rounded to float32 and compared in float64 (see trees.py)."""
    return graph.cast(graph.cast(wide(data, graph), "float32"), "float64")


def _members(step: Any) -> list[Any]:
    if getattr(step, "n_outputs_", 1) != 1:
        raise UnservableModel("models with several outputs are not served; train one for each")
    return [step.tree_] if hasattr(step, "tree_") else [e.tree_ for e in step.estimators_]


@estimates(
    "DecisionTreeClassifier",
    "ExtraTreeClassifier",
    "RandomForestClassifier",
    "ExtraTreesClassifier",
)
def forest_classifier(step: Any, data: Data, graph: Graph) -> Scores:
    """The mean of the trees' class frequencies."""
    x, trees, classes = _as_trees_see(data, graph), _members(step), len(step.classes_)
    frequencies = [_frequencies(tree) for tree in trees]
    if classes == 2:
        forest = Forest(1)
        for tree, values in zip(trees, frequencies, strict=True):
            add_sklearn_tree(forest, tree, values[:, 1], 0)
        total = forest.add_to(graph, x)
        mean = graph.apply("Div", total, float(len(trees))) if len(trees) > 1 else total
        return Scores.best_of(complement(mean, graph), graph)
    return Scores.best_of(_many_classes(trees, frequencies, x, graph), graph)


def _frequencies(tree: Any) -> Any:
    values = np.asarray(tree.value, dtype=np.float64)[:, 0, :]
    total = values.sum(axis=1, keepdims=True)
    return values / np.where(total == 0, 1.0, total) if not np.allclose(total, 1) else values


def _many_classes(trees: Sequence[Any], values: Sequence[Any], x: Tensor, graph: Graph) -> Tensor:
    """Each tree names its leaf; a table turns leaves into class frequencies.

    ONNX's leaves have one target, so this spares one copy of each tree for every class.
    """
    forest = Forest(len(trees))
    offset = 0
    for i, tree in enumerate(trees):
        add_sklearn_tree(forest, tree, np.arange(offset, offset + tree.node_count, dtype=float), i)
        offset += tree.node_count
    leaves = graph.cast(forest.add_to(graph, x), "int64")
    table = graph.constant(np.concatenate(values))
    found = graph.node("Gather", [table, leaves.name], axis=0)
    total = graph.node("ReduceSum", [found, graph.constant([1], "int64")], keepdims=0)
    return graph.apply("Div", Tensor(total, "float64", values[0].shape[1]), float(len(trees)))


@estimates(
    "DecisionTreeRegressor", "ExtraTreeRegressor", "RandomForestRegressor", "ExtraTreesRegressor"
)
def forest_regressor(step: Any, data: Data, graph: Graph) -> Tensor:
    """The mean of the trees' values."""
    trees, forest = _members(step), Forest(1)
    for tree in trees:
        add_sklearn_tree(forest, tree, tree.value[:, 0, 0], 0)
    total = forest.add_to(graph, _as_trees_see(data, graph))
    return graph.apply("Div", total, float(len(trees))) if len(trees) > 1 else total


def _boosted(step: Any, data: Data, graph: Graph) -> Tensor:
    """Raw predictions of GradientBoosting: init, then learning_rate times each tree."""
    stages = np.asarray(step.estimators_)
    forest = Forest(stages.shape[1])
    start = np.asarray(_initial(step), dtype=np.float64).ravel()
    for k in range(stages.shape[1]):
        forest.constant_tree(k, float(start[k]))
    for stage in stages:
        for k, tree in enumerate(stage):
            values = tree.tree_.value[:, 0, 0] * step.learning_rate
            add_sklearn_tree(forest, tree.tree_, values, k)
    return forest.add_to(graph, _as_trees_see(data, graph))


def _initial(step: Any) -> Any:
    init = step.init_
    if not (isinstance(init, str) or type(init).__name__.startswith("Dummy")):
        raise UnservableModel(
            f"{type(step).__name__} with init={type(init).__name__} cannot become ONNX; "
            "train with init=None or init='zero'"
        )
    return step._raw_predict_init(np.zeros((1, step.n_features_in_), dtype=np.float32))


@estimates("GradientBoostingRegressor")
def gradient_boosting_regressor(step: Any, data: Data, graph: Graph) -> Tensor:
    """The raw prediction."""
    return _boosted(step, data, graph)


@estimates("GradientBoostingClassifier")
def gradient_boosting_classifier(step: Any, data: Data, graph: Graph) -> Scores:
    """The raw predictions through the loss's link."""
    raw = _boosted(step, data, graph)
    if step.loss == "exponential":
        raw = graph.apply("Mul", raw, 2.0)
    return linked(raw, graph)


def linked(raw: Tensor, graph: Graph) -> Scores:
    """The logistic function of one raw score, or the softmax of several."""
    if raw.width == 1:
        return Scores.best_of(complement(graph.unary("Sigmoid", raw), graph), graph)
    name = graph.node("Softmax", [raw.name], axis=1)
    return Scores.best_of(Tensor(name, raw.dtype, raw.width), graph)


def _hist(step: Any, data: Data, graph: Graph) -> Tensor:
    """Raw predictions of HistGradientBoosting, compared in float64."""
    forest = Forest(int(step.n_trees_per_iteration_))
    for k, start in enumerate(np.ravel(step._baseline_prediction)):
        forest.constant_tree(k, float(start))
    for iteration in step._predictors:
        for k, predictor in enumerate(iteration):
            add_hist_tree(forest, predictor, k)
    return forest.add_to(graph, _hist_input(step, data, graph))


def _hist_input(step: Any, data: Data, graph: Graph) -> Tensor:
    """With categorical features: encoded and put first, as `_preprocess_X` does."""
    if step._preprocessor is None:
        return wide(data, graph)
    mask = np.asarray(step.is_categorical_)
    categorical, rest = ([int(i) for i in np.flatnonzero(m)] for m in (mask, ~mask))

    def pick(columns: list[int]) -> Data:
        return data.pick(columns) if isinstance(data, Table) else graph.select(data, columns)

    codes = encoder(step._preprocessor.named_transformers_["encoder"], pick(categorical), graph)
    return graph.concat([codes, wide(pick(rest), graph)]) if rest else codes


@estimates("HistGradientBoostingClassifier")
def hist_classifier(step: Any, data: Data, graph: Graph) -> Scores:
    """The raw predictions through the logistic function or the softmax."""
    return linked(_hist(step, data, graph), graph)


@estimates("HistGradientBoostingRegressor")
def hist_regressor(step: Any, data: Data, graph: Graph) -> Tensor:
    """The raw prediction, through exp for the losses with a log link."""
    raw = _hist(step, data, graph)
    return graph.unary("Exp", raw) if step.loss in ("poisson", "gamma") else raw
