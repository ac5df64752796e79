"""Numeric transformers, computed in the dtype and order of operations of scikit-learn's own."""

from typing import Any

import numpy as np

from orchestration.export.data import Data, matrix, wide
from orchestration.export.graph import Graph, Tensor
from orchestration.export.registry import transforms


def _in_float64(op: str, x: Tensor, constant: Any, graph: Graph) -> Tensor:
    """NumPy's in-place operator: computed in float64, rounded back to x's dtype."""
    result = graph.apply(op, graph.cast(x, "float64"), constant)
    return graph.cast(result, x.dtype)


@transforms("StandardScaler")
def standard_scaler(step: Any, data: Data, graph: Graph) -> Tensor:
    """(x - mean) / scale in x's own dtype (StandardScaler.transform)."""
    x = matrix(data, graph)
    if step.with_mean:
        x = graph.apply("Sub", x, step.mean_)
    return graph.apply("Div", x, step.scale_) if step.with_std else x


@transforms("RobustScaler")
def robust_scaler(step: Any, data: Data, graph: Graph) -> Tensor:
    """(x - center) / scale."""
    x = matrix(data, graph)
    if step.with_centering:
        x = _in_float64("Sub", x, step.center_, graph)
    return _in_float64("Div", x, step.scale_, graph) if step.with_scaling else x


@transforms("MaxAbsScaler")
def max_abs_scaler(step: Any, data: Data, graph: Graph) -> Tensor:
    """x / scale."""
    x = _in_float64("Div", matrix(data, graph), step.scale_, graph)
    return clip(x, -1.0, 1.0, graph) if getattr(step, "clip", False) else x


@transforms("MinMaxScaler")
def min_max_scaler(step: Any, data: Data, graph: Graph) -> Tensor:
    """x * scale + min."""
    x = _in_float64("Mul", matrix(data, graph), step.scale_, graph)
    x = _in_float64("Add", x, step.min_, graph)
    return clip(x, step.feature_range[0], step.feature_range[1], graph) if step.clip else x


def clip(x: Tensor, low: float, high: float, graph: Graph) -> Tensor:
    """numpy.clip: a NaN stays one."""
    bounds = [graph.constant(np.asarray(v, dtype=x.dtype)) for v in (low, high)]
    clipped = Tensor(graph.node("Clip", [x.name, *bounds]), x.dtype, x.width)
    missing = graph.node("IsNaN", [x.name])  # Clip turns NaN into a bound
    return Tensor(graph.node("Where", [missing, x.name, clipped.name]), x.dtype, x.width)


@transforms("Normalizer")
def normalizer(step: Any, data: Data, graph: Graph) -> Tensor:
    """Each row over its norm; a row of zeros stays."""
    return normalize(wide(data, graph), step.norm, graph)


def normalize(x: Tensor, norm: str, graph: Graph) -> Tensor:
    """sklearn.preprocessing.normalize: a norm of 0 divides by 1."""
    axis = graph.constant([1], "int64")
    if norm == "max":
        length = graph.node("ReduceMax", [graph.unary("Abs", x).name, axis], keepdims=1)
    else:
        length = graph.node({"l1": "ReduceL1", "l2": "ReduceL2"}[norm], [x.name, axis], keepdims=1)
    zero, one = (graph.constant(np.asarray([[v]], dtype=x.dtype)) for v in (0, 1))
    safe = graph.node("Where", [graph.node("Equal", [length, zero]), one, length])
    return Tensor(graph.node("Div", [x.name, safe]), x.dtype, x.width)


@transforms("Binarizer")
def binarizer(step: Any, data: Data, graph: Graph) -> Tensor:
    """1 above the threshold, else 0."""
    x = matrix(data, graph)
    above = graph.apply("Greater", x, step.threshold)
    return graph.cast(Tensor(above.name, "bool", x.width), x.dtype)


@transforms("PCA", "TruncatedSVD", "IncrementalPCA")
def projection(step: Any, data: Data, graph: Graph) -> Tensor:
    """(x - mean) components^T, whitened where asked for."""
    x = wide(data, graph)
    components = np.asarray(step.components_, dtype=np.float64)
    mean = getattr(step, "mean_", None)
    offset = 0.0 if mean is None else -(np.asarray(mean).reshape(1, -1) @ components.T).ravel()
    result = graph.affine(x, components.T, offset)
    if getattr(step, "whiten", False):
        scale = np.maximum(np.sqrt(step.explained_variance_), np.finfo(np.float64).eps)
        result = graph.apply("Div", result, scale)
    return result


@transforms("PolynomialFeatures")
def polynomial_features(step: Any, data: Data, graph: Graph) -> Tensor:
    """Products of columns, in the order of `powers_`."""
    x = wide(data, graph)
    columns: list[Tensor] = []
    ones = graph.apply("Add", graph.apply("Mul", graph.select(x, [0]), [[0.0]]), [[1.0]])
    for powers in np.asarray(step.powers_):
        factors = [j for j, p in enumerate(powers) for _ in range(int(p))]
        product = graph.select(x, factors[:1]) if factors else ones
        for j in factors[1:]:
            name = graph.node("Mul", [product.name, graph.select(x, [j]).name])
            product = Tensor(name, "float64", 1)
        columns.append(product)
    return graph.concat(columns)


@transforms(
    "VarianceThreshold",
    "SelectKBest",
    "SelectPercentile",
    "SelectFpr",
    "SelectFdr",
    "SelectFwe",
    "SelectFromModel",
    "RFE",
    "RFECV",
    "SequentialFeatureSelector",
    "GenericUnivariateSelect",
)
def selector(step: Any, data: Data, graph: Graph) -> Data:
    """The columns that were kept."""
    kept = [int(i) for i in step.get_support(indices=True)]
    return graph.select(data, kept) if isinstance(data, Tensor) else data.pick(kept)


@transforms("KBinsDiscretizer")
def bins(step: Any, data: Data, graph: Graph) -> Tensor:
    """searchsorted(edges[1:-1], x, side="right"), then one-hot where asked for."""
    x = wide(data, graph)
    one_hot = step.encode.startswith("onehot")
    parts = []
    for j, edges in enumerate(step.bin_edges_):
        column, inner = graph.select(x, [j]), np.asarray(edges[1:-1], dtype=np.float64)
        at_least = graph.apply("GreaterOrEqual", column, inner.reshape(1, -1), width=len(inner))
        counted = graph.cast(Tensor(at_least.name, "bool", len(inner)), "float64")
        total = graph.node("ReduceSum", [counted.name, graph.constant([1], "int64")], keepdims=1)
        index = Tensor(total, "float64", 1)
        if one_hot:
            n = len(edges) - 1
            hit = graph.apply("Equal", index, np.arange(n, dtype=np.float64).reshape(1, -1))
            index = graph.cast(Tensor(hit.name, "bool", n), "float64")
        parts.append(index)
    return graph.concat(parts)
