"""Encoders of categories and imputers.

A category becomes its position among the fitted ones; a table, filled by asking the fitted
encoder itself, turns positions into output columns. So `drop`, infrequent categories and unknown
values hold without being written a second time.
"""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestration.export.data import Data, Table, matrix
from orchestration.export.errors import UnservableModel
from orchestration.export.graph import Graph, Tensor
from orchestration.export.registry import transforms

MISSING_TEXT = "nan"  # how ONNX Runtime reads a NaN in an array of strings
_UNSEEN_TEXT = "\x00slipway-unseen"


def column(data: Data, j: int, graph: Graph) -> Tensor:
    """One column, (rows, 1): strings as strings, numbers as float64."""
    if isinstance(data, Tensor):
        one = graph.select(data, [j])
        return one if one.dtype == "string" else graph.cast(one, "float64")
    _, dtype, position = data.columns[j]
    source = data.strings if dtype == "string" else data.numbers
    if source is None:
        raise UnservableModel(f"column {data.columns[j][0]} does not reach the graph")
    return graph.select(source, [position])


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def _position(values: Tensor, categories: list[Any], graph: Graph) -> str:
    """int64 (rows,): the place of each value among the categories, or len(categories)."""
    flat = graph.node("Reshape", [values.name, graph.constant([-1], "int64")])
    if values.dtype == "string":
        keys = [MISSING_TEXT if _is_missing(c) else str(c) for c in categories]
        return graph.node(
            "LabelEncoder",
            [flat],
            domain="ai.onnx.ml",
            keys_strings=keys,
            values_int64s=list(range(len(keys))),
            default_int64=len(keys),
        )
    numbers = np.array([np.nan if _is_missing(c) else float(c) for c in categories])
    hit = graph.node("Equal", [values.name, graph.constant(numbers.reshape(1, -1))])
    if np.isnan(numbers).any():
        mask = graph.constant(np.isnan(numbers).reshape(1, -1))
        missing = graph.node("And", [graph.node("IsNaN", [values.name]), mask])
        hit = graph.node("Or", [hit, missing])
    # the last column is always 1, so that argmax finds it where no category is hit
    found = graph.cast(Tensor(hit, "bool", len(categories)), "float32")
    width = graph.constant(np.asarray([0, 0, 0, 1], dtype=np.int64))
    padded = graph.node("Pad", [found.name, width, graph.constant(np.float32(1.0))])
    return graph.node("ArgMax", [padded], axis=1, keepdims=0)


def _unseen(categories: list[Any]) -> Any:
    present = [c for c in categories if not _is_missing(c)]
    if any(isinstance(c, str) for c in present):
        return _UNSEEN_TEXT
    return float(max((float(c) for c in present), default=0.0)) + 1.5


def _probe(encoder: Any, j: int, value: Any) -> npt.NDArray[Any]:
    """What the fitted encoder makes of one value in column j, the others at their first."""
    row = [categories[0] for categories in encoder.categories_]
    row[j] = value
    array: Any = np.array([row], dtype=object)
    if hasattr(encoder, "feature_names_in_"):
        import pandas as pd

        array = pd.DataFrame(array, columns=encoder.feature_names_in_)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unknown categories are asked for on purpose
        result = encoder.transform(array)
    result = result.toarray() if hasattr(result, "toarray") else result
    values: npt.NDArray[Any] = np.asarray(result, dtype=np.float64)[0]
    return values


def _spans(encoder: Any, width: int) -> list[slice]:
    """Which output columns belong to which input column."""
    counts = getattr(encoder, "_n_features_outs", None) or [
        width // len(encoder.categories_)
    ] * len(encoder.categories_)
    ends = np.cumsum(counts)
    return [slice(int(end - n), int(end)) for end, n in zip(ends, counts, strict=True)]


@transforms("OneHotEncoder", "OrdinalEncoder", "TargetEncoder")
def encoder(step: Any, data: Data, graph: Graph) -> Tensor:
    """Each column by its table. Where unknown values are an error, the contract lists the known."""
    width = len(_probe(step, 0, step.categories_[0][0]))
    parts = []
    for j, span in enumerate(_spans(step, width)):
        categories = list(step.categories_[j])
        rows = [_probe(step, j, c)[span] for c in categories]
        if getattr(step, "handle_unknown", "ignore") == "error":
            _require(data, j, categories)
            rows.append(np.zeros_like(rows[0]))
        else:
            rows.append(_probe(step, j, _unseen(categories))[span])
        position = _position(column(data, j, graph), categories, graph)
        table = graph.constant(np.array(rows, dtype=np.float64))
        name = graph.node("Gather", [table, position], axis=0)
        parts.append(Tensor(name, "float64", span.stop - span.start))
    return graph.concat(parts)


def _require(data: Data, j: int, categories: list[Any]) -> None:
    if isinstance(data, Table):
        known = tuple(c.item() if hasattr(c, "item") else c for c in categories)
        data.requirements.categories[data.columns[j][0]] = known


@transforms("SimpleImputer")
def simple_imputer(step: Any, data: Data, graph: Graph) -> Data:
    """Missing values by the fitted statistics; columns without one are dropped as fitted."""
    strings = isinstance(data, Table) and any(d == "string" for _, d, _ in data.columns)
    if strings or (isinstance(data, Tensor) and data.dtype == "string"):
        return _impute_strings(step, data, graph)
    x = matrix(data, graph)
    missing = _missing(step.missing_values, x, graph)
    statistics = np.asarray(step.statistics_, dtype=x.dtype)
    if step.keep_empty_features:
        kept, fill = list(range(x.width)), np.nan_to_num(statistics)
    else:
        kept = [int(i) for i in np.flatnonzero(~np.isnan(statistics))]
        fill = statistics
    constant = graph.constant(fill.reshape(1, -1))
    filled = Tensor(graph.node("Where", [missing.name, constant, x.name]), x.dtype, x.width)
    result = graph.select(filled, kept)
    if step.add_indicator:
        flags = graph.cast(missing, x.dtype)
        features = [int(i) for i in step.indicator_.features_]
        if features:
            result = graph.concat([result, graph.select(flags, features)])
    return result


@transforms("MissingIndicator")
def missing_indicator(step: Any, data: Data, graph: Graph) -> Tensor:
    """1 where a value is missing, for the fitted columns."""
    missing = _missing(step.missing_values, matrix(data, graph), graph)
    return graph.cast(graph.select(missing, [int(i) for i in step.features_]), "float64")


def _missing(marker: Any, x: Tensor, graph: Graph) -> Tensor:
    if _is_missing(marker):
        return Tensor(graph.node("IsNaN", [x.name]), "bool", x.width)
    return Tensor(graph.apply("Equal", x, marker).name, "bool", x.width)


def _impute_strings(step: Any, data: Data, graph: Graph) -> Tensor:
    columns = []
    for j, fill in enumerate(step.statistics_):
        x = column(data, j, graph)
        if x.dtype != "string":
            raise UnservableModel(
                "SimpleImputer gets texts and numbers in one step; impute them in two"
            )
        marker = MISSING_TEXT if _is_missing(step.missing_values) else str(step.missing_values)
        code = graph.node(
            "LabelEncoder",
            [x.name],
            domain="ai.onnx.ml",
            keys_strings=[marker],
            values_int64s=[1],
            default_int64=0,
        )
        missing = graph.cast(Tensor(code, "int64", 1), "bool")
        value = graph.constant(np.array([[str(fill)]], dtype=object), "string")
        columns.append(Tensor(graph.node("Where", [missing.name, value, x.name]), "string", 1))
    if step.add_indicator:
        raise UnservableModel("SimpleImputer(add_indicator=True) on texts cannot become ONNX")
    return graph.concat(columns)
