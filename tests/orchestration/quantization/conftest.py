"""Networks as they come out of the registry, exported."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from sklearn.neural_network import MLPClassifier, MLPRegressor

from bentos.model_server.session import ModelSession
from orchestration.export import Exported, NativeModel, export
from orchestration.export.signature import Field, Signature
from serving_config.schema import Model

WIDTH = 12


@dataclass(frozen=True)
class Trained:
    """A model, its graph, and the rows it was trained on with their truth."""

    native: NativeModel
    exported: Exported
    frame: pd.DataFrame
    truth: list

    @property
    def session(self) -> ModelSession:
        return ModelSession(self.exported.model, self.exported.contract)


def trained(estimator, x, y) -> Trained:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it stops before it has converged
        estimator.fit(x, y)
    fields = tuple(Field(f"x{i}", "float64") for i in range(x.shape[1]))
    native = NativeModel("sklearn", estimator, Signature(fields, tensor=True))
    frame = pd.DataFrame(x, columns=[field.name for field in fields])
    return Trained(native, export(native, Model(name="m"), 1), frame, y.tolist())


def _rows(count: int = 600) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, WIDTH))
    return x, x[:, 0] + np.sin(x[:, 1]) * x[:, 2]


@pytest.fixture(scope="package")
def classifier() -> Trained:
    """Large enough to be exported in float32."""
    x, value = _rows()
    network = MLPClassifier((512, 256), max_iter=15, random_state=0)
    return trained(network, x, np.where(value > 0, "yes", "no"))


@pytest.fixture(scope="package")
def regressor() -> Trained:
    """Exported in float64."""
    x, value = _rows()
    network = MLPRegressor(hidden_layer_sizes=(128, 96, 64), max_iter=30, random_state=0)
    return trained(network, x, value)


@pytest.fixture(scope="package")
def fitted() -> Callable[..., Trained]:
    """(estimator, activation's or another's own rows) to a Trained."""

    def fit(estimator, x=None, y=None) -> Trained:
        if x is None:
            x, value = _rows(200)
            y = (value > 0).astype(int)
        return trained(estimator, x, y)

    return fit
