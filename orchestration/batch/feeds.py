"""Columns to the arrays that the graph takes: `session.feeds` without a row in Python."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bentos.model_server.contract import Contract
from bentos.model_server.session import Feeds

Values = Mapping[str, npt.NDArray[Any]]


def feeds_of(contract: Contract, values: Values, rows: int) -> Feeds:
    """values: by input, as `validation.read_column` gives them, none of them refused."""
    arrays: Feeds = {}
    for graph_input in contract.graph_inputs:
        dtype: Any = np.dtype(object if graph_input.dtype == "string" else graph_input.dtype)
        if graph_input.shape == "vector":
            arrays[graph_input.name] = _as(values[graph_input.columns[0]], dtype).astype(dtype)
            continue
        matrix = np.empty((rows, len(graph_input.columns)), dtype)
        for j, column in enumerate(graph_input.columns):
            matrix[:, j] = _as(values[column], dtype)
        arrays[graph_input.name] = matrix
    return arrays


def _as(values: npt.NDArray[Any], dtype: Any) -> npt.NDArray[Any]:
    """By way of float64 if an int64 becomes a float32: so NumPy rounds Python's integers."""
    twice = dtype == np.float32 and values.dtype == np.int64
    return values.astype(np.float64) if twice else values
