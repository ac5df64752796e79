"""Pipelines, ColumnTransformers and FeatureUnions: one step after another, or side by side."""

from typing import Any

import numpy as np

from orchestration.export import categorical, ensembles, estimators, functions, numeric, text
from orchestration.export.data import Data, Table, matrix, wide
from orchestration.export.errors import UnservableModel
from orchestration.export.fallback import convert_estimator, convert_transformer
from orchestration.export.graph import Graph, Tensor
from orchestration.export.registry import (
    ESTIMATORS,
    TRANSFORMERS,
    Scores,
    estimates,
    qualified,
    transforms,
)

__all__ = [
    "categorical",
    "ensembles",
    "estimate",
    "estimators",
    "functions",
    "numeric",
    "text",
    "transform",
]


def transform(step: Any, data: Data, graph: Graph) -> Data:
    """A fitted transformer on some data."""
    if step is None or (isinstance(step, str) and step == "passthrough"):
        return data
    if convert := TRANSFORMERS.get(qualified(step)):
        return convert(step, data, graph)
    return convert_transformer(step, wide(data, graph), graph)


def estimate(step: Any, data: Data, graph: Graph) -> Tensor | Scores:
    """A fitted classifier or regressor on some data; a regressor's tensor is (rows, 1)."""
    if convert := ESTIMATORS.get(qualified(step)):
        return convert(step, data, graph)
    return convert_estimator(step, wide(data, graph), graph)


@transforms("Pipeline")
def pipeline(step: Any, data: Data, graph: Graph) -> Data:
    """All steps of a pipeline of transformers."""
    for _, inner in step.steps:
        data = transform(inner, data, graph)
    return data


@estimates("Pipeline")
def pipeline_estimator(step: Any, data: Data, graph: Graph) -> Tensor | Scores:
    """Transformers, then the estimator."""
    for _, inner in step.steps[:-1]:
        data = transform(inner, data, graph)
    return estimate(step.steps[-1][1], data, graph)


@estimates("GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV")
def search(step: Any, data: Data, graph: Graph) -> Tensor | Scores:
    """The estimator that won."""
    return estimate(step.best_estimator_, data, graph)


@transforms("FeatureUnion")
def feature_union(step: Any, data: Data, graph: Graph) -> Tensor:
    """Every transformer on the same data, side by side."""
    weights = step.transformer_weights or {}
    parts = [
        _weighted(transform(inner, data, graph), weights.get(name), graph)
        for name, inner in step.transformer_list
        if not (isinstance(inner, str) and inner == "drop")
    ]
    return graph.concat(parts)


@transforms("ColumnTransformer")
def column_transformer(step: Any, data: Data, graph: Graph) -> Tensor:
    """Each transformer on its columns, side by side in the order of `transformers_`."""
    weights = step.transformer_weights or {}
    parts = []
    for name, inner, _ in step.transformers_:
        indices = [int(i) for i in step._transformer_to_input_indices.get(name, [])]
        if (isinstance(inner, str) and inner == "drop") or not indices:
            continue
        result = transform(inner, _columns(data, indices, graph), graph)
        parts.append(_weighted(result, weights.get(name), graph))
    if not parts:
        raise UnservableModel("the ColumnTransformer keeps no column at all")
    return graph.concat(parts)


def _columns(data: Data, indices: list[int], graph: Graph) -> Data:
    return data.pick(indices) if isinstance(data, Table) else graph.select(data, indices)


def _weighted(data: Data, weight: float | None, graph: Graph) -> Tensor:
    if isinstance(data, Table) and any(d == "string" for _, d, _ in data.columns):
        if all(d == "string" for _, d, _ in data.columns):
            return graph.concat([categorical.column(data, j, graph) for j in range(data.width)])
        raise UnservableModel(
            f"texts and numbers are mixed in one matrix: {[n for n, _, _ in data.columns]}; "
            "encode the texts in the ColumnTransformer"
        )
    tensor = matrix(data, graph)
    return tensor if weight is None else graph.apply("Mul", tensor, np.float64(weight))
