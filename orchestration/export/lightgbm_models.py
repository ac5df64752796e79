"""LightGBM, read from `Booster.dump_model()`; compared and summed in float64 as it does."""

from typing import Any

import numpy as np

from orchestration.export.data import Data, wide
from orchestration.export.errors import UnservableModel
from orchestration.export.graph import Graph, Tensor
from orchestration.export.registry import Scores, estimates
from orchestration.export.tree_models import complement
from orchestration.export.trees import Forest

_ZERO = 1e-35  # LightGBM's kZeroThreshold
_EXPONENTIAL = ("poisson", "gamma", "tweedie")
_IDENTITY = (
    "regression",
    "regression_l1",
    "huber",
    "fair",
    "quantile",
    "mape",
    "lambdarank",
    "rank_xendcg",
)


@estimates("lightgbm.LGBMClassifier")
def lgbm_classifier(step: Any, data: Data, graph: Graph) -> Scores:
    """LGBMClassifier."""
    return _scores(step.booster_.dump_model(), wide(data, graph), graph)


@estimates("lightgbm.LGBMRegressor")
def lgbm_regressor(step: Any, data: Data, graph: Graph) -> Tensor:
    """LGBMRegressor."""
    return _value(step.booster_.dump_model(), wide(data, graph), graph)


@estimates("lightgbm.Booster")
def lgbm_booster(step: Any, data: Data, graph: Graph) -> Tensor | Scores:
    """A Booster, a classifier or a regressor by its objective."""
    model = step.dump_model()
    classifier = model["objective"].split(" ")[0] in ("binary", "multiclass", "multiclassova")
    return (_scores if classifier else _value)(model, wide(data, graph), graph)


def _scores(model: dict[str, Any], x: Tensor, graph: Graph) -> Scores:
    raw = _raw(model, x, graph)
    objective, *parameters = model["objective"].split(" ")
    if objective == "multiclass":
        name = graph.node("Softmax", [raw.name], axis=1)
        return Scores.best_of(Tensor(name, raw.dtype, raw.width), graph)
    if objective not in ("binary", "multiclassova"):
        raise UnservableModel(
            f"LightGBM with objective {objective} is not served as a classifier; "
            "train with binary or multiclass"
        )
    slope = float(dict(p.split(":") for p in parameters if ":" in p).get("sigmoid", 1))
    probability = graph.unary("Sigmoid", graph.apply("Mul", raw, slope) if slope != 1 else raw)
    if objective == "binary":
        probability = complement(probability, graph)
    return Scores.best_of(probability, graph)


def _value(model: dict[str, Any], x: Tensor, graph: Graph) -> Tensor:
    raw = _raw(model, x, graph)
    objective, *parameters = model["objective"].split(" ")
    if objective in _EXPONENTIAL:
        return graph.unary("Exp", raw)
    if objective == "cross_entropy":
        return graph.unary("Sigmoid", raw)
    if objective in _IDENTITY and "sqrt" not in parameters:
        return raw
    raise UnservableModel(
        f"LightGBM with objective {model['objective']} is not served; train with regression"
    )


def _raw(model: dict[str, Any], x: Tensor, graph: Graph) -> Tensor:
    """Sums of the leaves by class, (rows, classes); a mean for boosting=rf."""
    targets = int(model["num_tree_per_iteration"])
    forest = Forest(targets)
    zero_is_missing: set[int] = set()
    for i, tree in enumerate(model["tree_info"]):
        _add_tree(forest, tree["tree_structure"], i % targets, zero_is_missing)
    if not model["tree_info"]:
        raise UnservableModel("a LightGBM model without a tree")
    raw = forest.add_to(graph, _zeros(x, zero_is_missing, graph))
    if model.get("average_output"):
        raw = graph.apply("Div", raw, float(len(model["tree_info"]) // targets))
    return raw


def _zeros(x: Tensor, columns: set[int], graph: Graph) -> Tensor:
    """zero_as_missing: zeros of those columns as NaN."""
    if not columns:
        return x
    mask = graph.constant(np.array([[j in columns for j in range(x.width)]]))
    tiny = graph.apply("LessOrEqual", graph.unary("Abs", x), _ZERO).name
    hit = graph.node("And", [tiny, mask])
    nan = graph.constant(np.float64(np.nan))
    return Tensor(graph.node("Where", [hit, nan, x.name]), x.dtype, x.width)


def _add_tree(forest: Forest, root: dict[str, Any], target: int, zeros: set[int]) -> None:
    if "split_feature" not in root:
        forest.constant_tree(target, float(root["leaf_value"]))
        return
    forest.roots.append(_add_node(forest, root, zeros))
    queue = [(forest.roots[-1], root)]
    for number, node in queue:
        for side, key in enumerate(("left_child", "right_child")):
            child = node[key]
            if "split_feature" in child:
                inner = _add_node(forest, child, zeros)
                forest.link(number, side, inner, False)
                queue.append((inner, child))
            else:
                if "leaf_coeff" in child:
                    raise UnservableModel("LightGBM's linear_tree is not served; train without it")
                leaf = forest.leaf(target, float(child["leaf_value"]))
                forest.link(number, side, leaf, True)


def _add_node(forest: Forest, node: dict[str, Any], zeros: set[int]) -> int:
    """Tree::NumericalDecision: NaN goes the default way, or counts as 0 where none was seen."""
    if node["decision_type"] != "<=":
        raise UnservableModel(
            "LightGBM's own categorical splits are not served; encode the categories in a "
            "scikit-learn Pipeline (OneHotEncoder or OrdinalEncoder) and log that"
        )
    threshold, feature = float(node["threshold"]), int(node["split_feature"])
    if node["missing_type"] == "None":
        missing = threshold >= 0.0
    else:
        missing = bool(node["default_left"])
        if node["missing_type"] == "Zero":
            zeros.add(feature)
    return forest.split(feature, "<=", threshold, missing)
