"""Helpers: a fitted model as it comes out of the registry, exported, and compared."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from bentos.model_server.session import ModelSession
from orchestration.export import NativeModel, export
from orchestration.export.signature import Field, Signature
from serving_config.schema import Model


@pytest.fixture
def as_native() -> Callable[..., NativeModel]:
    """(model, fields or number of columns) to a NativeModel."""

    def build(model: Any, fields: int | Sequence[Field]) -> NativeModel:
        array = isinstance(fields, int)
        named = [Field(f"x{i}", "float64") for i in range(fields)] if array else fields
        return NativeModel("sklearn", model, Signature(tuple(named), tensor=array))

    return build


@pytest.fixture
def disagreement() -> Callable[..., tuple[float, int]]:
    """(native, rows) to (largest difference, label flips) of the exported graph."""

    def measure(native: NativeModel, rows: Sequence[Sequence[Any]]) -> tuple[float, int]:
        exported = export(native, Model(name="m"), 1)
        session = ModelSession(exported.model, exported.contract)
        expected, actual = native.predict(rows), session.predict(rows)
        if native.kind == "regression":
            a, b = np.array(expected.labels), np.array(actual.labels)
            return float((np.abs(a - b) / np.maximum(1, np.abs(a))).max()), 0
        flips = sum(a != b for a, b in zip(expected.labels, actual.labels, strict=True))
        if expected.probabilities is None:
            return 0.0, flips
        assert actual.probabilities is not None
        return float(np.abs(expected.probabilities - actual.probabilities).max()), flips

    return measure
