"""XGBoost and LightGBM, read from the models' own JSON.

XGBoost compares float32 (`fvalue < split_cond`) and sums float32 leaves; LightGBM compares
float64 (`value <= threshold`).
"""

import json
from typing import Any

import numpy as np

from orchestration.export.data import Data, wide
from orchestration.export.errors import UnservableModel
from orchestration.export.graph import Graph, Tensor
from orchestration.export.registry import Scores, estimates
from orchestration.export.tree_models import complement
from orchestration.export.trees import Forest

_LOGISTIC = ("binary:logistic", "reg:logistic")
_LOG = ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox")
_IDENTITY = (
    "reg:squarederror",
    "reg:squaredlogerror",
    "reg:pseudohubererror",
    "reg:absoluteerror",
    "reg:quantileerror",
    "rank:pairwise",
    "rank:ndcg",
    "rank:map",
    "binary:logitraw",
)


@estimates("xgboost.XGBClassifier", "xgboost.XGBRFClassifier")
def xgb_classifier(step: Any, data: Data, graph: Graph) -> Scores:
    """XGBClassifier, in XGBoost's own float32."""
    return _xgb_scores(step.get_booster(), _missing(step, data, graph), graph, _trees_used(step))


@estimates("xgboost.XGBRegressor", "xgboost.XGBRFRegressor")
def xgb_regressor(step: Any, data: Data, graph: Graph) -> Tensor:
    """XGBRegressor, in XGBoost's own float32."""
    raw, objective = _xgb_raw(
        step.get_booster(), _missing(step, data, graph), graph, _trees_used(step)
    )
    return _xgb_value(raw, objective, graph)


@estimates("xgboost.Booster")
def xgb_booster(step: Any, data: Data, graph: Graph) -> Tensor | Scores:
    """A Booster, a classifier or a regressor by its objective."""
    objective = xgb_objective(step)
    if objective in ("binary:logistic", "multi:softprob", "multi:softmax"):
        return _xgb_scores(step, wide(data, graph), graph, None)
    raw, _ = _xgb_raw(step, wide(data, graph), graph, None)
    return _xgb_value(raw, objective, graph)


def xgb_objective(booster: Any) -> str:
    """The name of a booster's objective."""
    return str(json.loads(booster.save_config())["learner"]["objective"]["name"])


def _missing(step: Any, data: Data, graph: Graph) -> Tensor:
    """What the estimator calls missing, as NaN."""
    x = wide(data, graph)
    if step.missing is None or np.isnan(step.missing):
        return x
    hit = graph.apply("Equal", x, step.missing).name
    nan = graph.constant(np.float64(np.nan))
    return Tensor(graph.node("Where", [hit, nan, x.name]), x.dtype, x.width)


def _trees_used(step: Any) -> int | None:
    """Boosting rounds up to the best one, where training stopped early."""
    end = int(step._get_iteration_range(None)[1])
    return end or None


def _xgb_scores(booster: Any, x: Tensor, graph: Graph, rounds: int | None) -> Scores:
    raw, objective = _xgb_raw(booster, x, graph, rounds)
    if objective in _LOGISTIC and raw.width == 1:
        return Scores.best_of(complement(graph.unary("Sigmoid", raw), graph), graph)
    if objective in ("multi:softprob", "multi:softmax"):
        name = graph.node("Softmax", [raw.name], axis=1)
        return Scores.best_of(Tensor(name, raw.dtype, raw.width), graph)
    raise UnservableModel(
        f"XGBoost with objective {objective} is not served as a classifier; "
        "train with binary:logistic or multi:softprob"
    )


def _xgb_value(raw: Tensor, objective: str, graph: Graph) -> Tensor:
    if objective in _LOGISTIC:
        return graph.unary("Sigmoid", raw)
    if objective in _LOG:
        return graph.unary("Exp", raw)
    if objective in _IDENTITY and raw.width == 1:
        return raw
    raise UnservableModel(
        f"XGBoost with objective {objective} is not served; train with reg:squarederror"
    )


def _xgb_raw(booster: Any, x: Tensor, graph: Graph, rounds: int | None) -> tuple[Tensor, str]:
    """Margins, (rows, classes) float32, and the objective's name."""
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    objective = learner["objective"]["name"]
    gradient, weights = learner["gradient_booster"], None
    if gradient["name"] == "dart":
        weights, gradient = gradient["weight_drop"], gradient["gbtree"]
    if gradient["name"] != "gbtree":
        raise UnservableModel(f"XGBoost's booster {gradient['name']} is not served; use gbtree")
    model = gradient["model"]
    targets = max(1, int(learner["learner_model_param"]["num_class"]))
    forest = Forest(targets)
    for k, margin in enumerate(_margins(learner, objective, targets)):
        forest.constant_tree(k, margin)
    used = len(model["trees"]) if rounds is None else model["iteration_indptr"][rounds]
    for i in range(used):
        _add_xgb_tree(
            forest, model["trees"][i], model["tree_info"][i], weights[i] if weights else 1.0
        )
    return forest.add_to(graph, graph.cast(x, "float32")), objective


def _margins(learner: dict[str, Any], objective: str, targets: int) -> list[float]:
    """The starting scores: base_score through the inverse of the objective's link."""
    if int(learner["learner_model_param"].get("num_target", "1")) > 1:
        raise UnservableModel("XGBoost models with several targets are not served; train one each")
    text = learner["learner_model_param"]["base_score"]
    parsed = json.loads(text)
    scores = np.asarray(parsed if isinstance(parsed, list) else [parsed], dtype=np.float32)
    if objective in _LOGISTIC:
        scores = -np.log(np.float32(1.0) / scores - np.float32(1.0))
    elif objective in _LOG:
        scores = np.log(scores)
    return [float(s) for s in np.broadcast_to(scores, (targets,))]


def _add_xgb_tree(forest: Forest, tree: dict[str, Any], target: int, weight: float) -> None:
    if int(tree["tree_param"]["size_leaf_vector"]) > 1:
        raise UnservableModel(
            "XGBoost's multi_output_tree is not served; train with one_output_per_tree"
        )
    if any(tree.get("split_type", ())):
        raise UnservableModel(
            "XGBoost's own categorical splits are not served; encode the categories in a "
            "scikit-learn Pipeline (OneHotEncoder or OrdinalEncoder) and log that"
        )
    left, right = tree["left_children"], tree["right_children"]
    values = tree["split_conditions"]
    if left[0] == -1:
        forest.constant_tree(target, float(values[0]) * weight)
        return
    # nodes that pruning left behind are not reachable and are not copied
    numbers: dict[int, int] = {}
    reached = [0]
    for i in reached:
        if left[i] == -1:
            numbers[i] = forest.leaf(target, float(values[i]) * weight)
        else:
            missing = bool(tree["default_left"][i])
            numbers[i] = forest.split(tree["split_indices"][i], "<", float(values[i]), missing)
            reached.extend((left[i], right[i]))
    forest.roots.append(numbers[0])
    for i in reached:
        if left[i] != -1:
            for side, child in enumerate((left[i], right[i])):
                forest.link(numbers[i], side, numbers[child], left[child] == -1)
