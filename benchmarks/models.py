"""The models, trained on seeded data: 30 float features, two classes."""

import hashlib
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bentos.model_server.bundle import Limits
from bentos.model_server.contract import Contract, GraphInput, Input, Outputs
from tests.bentos.model_server.models import Parts, certify

FIELDS = tuple(f"f{i}" for i in range(30))
TITLES = {
    "lr": "logistic regression",
    "rf": "random forest, 200 trees",
    "mlp": "MLP 1024-1024-512",
}
# Of batch scoring.
BATCH_TITLES = {"gb": "gradient boosting, 100 trees", "mlp": TITLES["mlp"]}


@dataclass(frozen=True)
class Model:
    """folder: model.onnx, contract and certificate; row: the request that the load repeats;
    probabilities: of that row, from scikit-learn."""

    name: str
    folder: Path
    row: tuple[float, ...]
    probabilities: tuple[float, ...]


def estimators() -> dict[str, Callable[[], Any]]:
    """By name, not fitted yet."""
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    return {
        "lr": lambda: LogisticRegression(max_iter=1000),
        "rf": lambda: RandomForestClassifier(n_estimators=200, random_state=0),
        "gb": lambda: GradientBoostingClassifier(random_state=0),
        "mlp": lambda: MLPClassifier((1024, 1024, 512), max_iter=2, random_state=0),
    }


def convert(estimator: Any) -> bytes:
    """What skl2onnx makes of it: all in float32."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    graph = convert_sklearn(
        estimator,
        initial_types=[("input", FloatTensorType([None, len(FIELDS)]))],
        options={id(estimator): {"zipmap": False}},
        target_opset={"": 18, "ai.onnx.ml": 3},
    )
    data: bytes = graph.SerializeToString()
    return data


def _contract(name: str, onnx: bytes, row: list[float]) -> Contract:
    return Contract(
        model=name,
        version=1,
        onnx_sha256=hashlib.sha256(onnx).hexdigest(),
        inputs=tuple(Input(field, "float64") for field in FIELDS),
        graph_inputs=(GraphInput("input", "float32", FIELDS),),
        outputs=Outputs("classification", "label", "probabilities", (0, 1)),
        example=dict(zip(FIELDS, row, strict=True)),
    )


def train(folder: Path, names: Collection[str] = tuple(TITLES)) -> dict[str, Model]:
    """By name; the same files on every run with the same libraries."""
    from sklearn.datasets import make_classification

    x, y = make_classification(4000, len(FIELDS), n_informative=15, random_state=0)
    x = x.astype(np.float32)
    models = {}
    for name, make in estimators().items():
        if name not in names:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the MLP stops before it has converged
            estimator = make().fit(x, y)
            onnx = convert(estimator)
        rows = x[:16].astype(float).tolist()
        contract = _contract(name, onnx, rows[0])
        named = [dict(zip(FIELDS, row, strict=True)) for row in rows]
        certificate = certify(onnx, contract, named)
        written = Parts(onnx, contract, certificate).write(folder / name, Limits())
        probabilities = tuple(estimator.predict_proba(x[:1])[0].tolist())
        models[name] = Model(name, written, tuple(rows[0]), probabilities)
    return models
