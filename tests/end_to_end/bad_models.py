"""Model versions that pass every proof and harm only live traffic: for the tests of releases.

Each is what a registry may really hold: the graph answers as it was trained, but was trained on
wrong labels; or one kind of row, which no reference row resembles, is very slow or breaks it.
"""

from typing import Any

import mlflow
import numpy as np
import onnx
import pandas as pd
from mlflow.models import infer_signature
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.end_to_end.harness import SETOSA, Checkout

# Between these bounds lies no row of the data, which has one decimal, and no edge row.
TRIGGER = {**SETOSA, "petal_width": 0.2137}
_LOW, _HIGH = 0.2135, 0.2139
# A product of two matrices of that size takes about a second on one core.
_SLOW_SIZE = 3600
F, I, S = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING  # noqa: E741


def data() -> tuple[pd.DataFrame, pd.Series]:
    loaded = load_iris(as_frame=True)
    features = loaded.data.set_axis(list(SETOSA), axis=1)
    return features, pd.Series(loaded.target_names[loaded.target], dtype=str)


def good(platform: Checkout, name: str, strength: float) -> int:
    """A logistic regression; another strength is another model that answers nearly the same."""
    features, labels = data()
    return _register_sklearn(platform, name, features, labels, strength)


def mislabelled(platform: Checkout, name: str) -> int:
    """Trained on labels that are off by one."""
    features, labels = data()
    names = sorted(set(labels))
    wrong = labels.map(dict(zip(names, names[1:] + names[:1], strict=True)))
    return _register_sklearn(platform, name, features, wrong, 1.0)


def slow(platform: Checkout, name: str) -> int:
    """Takes about a second for the trigger row."""
    return _register_onnx(platform, name, _slow_nodes())


def failing(platform: Checkout, name: str) -> int:
    """Breaks on the trigger row."""
    return _register_onnx(platform, name, _failing_nodes())


def _register_sklearn(
    platform: Checkout, name: str, features: pd.DataFrame, labels: pd.Series, strength: float
) -> int:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500))
    model.fit(features, labels.to_numpy(dtype=str))

    def log() -> Any:
        return mlflow.sklearn.log_model(
            model,
            name="model",
            registered_model_name=name,
            pip_requirements=["scikit-learn"],
            signature=infer_signature(features, model.predict(features)),
            input_example=features.sample(40, random_state=0),
        )

    return _registered(platform, log)


def _register_onnx(platform: Checkout, name: str, extra: list[Any]) -> int:
    features, labels = data()
    model = LogisticRegression(max_iter=500).fit(features, labels.to_numpy(dtype=str))
    graph = _graph(model, extra)

    def log() -> Any:
        return mlflow.onnx.log_model(
            graph,
            name="model",
            registered_model_name=name,
            pip_requirements=["onnx", "onnxruntime"],
            signature=infer_signature(features, np.array(["setosa"])),
            input_example=features.sample(40, random_state=0),
        )

    return _registered(platform, log)


def _registered(platform: Checkout, log: Any) -> int:
    mlflow.set_tracking_uri(platform.url("mlflow"))
    try:
        with mlflow.start_run():
            return int(log().registered_model_version)
    finally:
        mlflow.set_tracking_uri(None)  # it is the process's, and other tests share that


def _constant(name: str, value: Any) -> Any:
    return numpy_helper.from_array(np.asarray(value), name)


def _graph(model: LogisticRegression, extra: list[Any]) -> Any:
    """features → probabilities and label; `extra` makes `nothing`, a zero, out of `triggered`."""
    node = helper.make_node
    nodes = [
        node("Gather", ["x", "last"], ["width"], axis=1),
        node("Greater", ["width", "low"], ["above"]),
        node("Less", ["width", "high"], ["below"]),
        node("And", ["above", "below"], ["inside"]),
        node("Cast", ["inside"], ["flags"], to=I),
        node("ReduceMax", ["flags"], ["triggered"], keepdims=0),
        *extra,
        node("MatMul", ["x", "weights"], ["product"]),
        node("Add", ["product", "bias"], ["biased"]),
        node("Add", ["biased", "nothing"], ["scores"]),
        node("Softmax", ["scores"], ["probabilities"], axis=1),
        node("ArgMax", ["probabilities"], ["best"], axis=1, keepdims=0),
        node("Gather", ["classes", "best"], ["label"], axis=0),
    ]
    constants = [
        _constant("last", np.int64(3)),
        _constant("low", np.float32(_LOW)),
        _constant("high", np.float32(_HIGH)),
        _constant("weights", model.coef_.T.astype(np.float32)),
        _constant("bias", model.intercept_.astype(np.float32)),
        helper.make_tensor("classes", S, [3], [str(c).encode() for c in model.classes_]),
        _constant("size", np.array([_SLOW_SIZE, _SLOW_SIZE], np.int64)),
        _constant("one", np.array([1, 1], np.int64)),
        _constant("zero", np.float32(0)),
        _constant("table", np.zeros(1, np.float32)),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", F, ["batch", 4])],
        [
            helper.make_tensor_value_info("label", S, ["batch"]),
            helper.make_tensor_value_info("probabilities", F, ["batch", 3]),
        ],
        constants,
    )
    model_proto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    )
    onnx.checker.check_model(model_proto)
    return model_proto


def _slow_nodes() -> list[Any]:
    """A product of two large matrices where the trigger is set, of two numbers elsewhere."""
    node = helper.make_node
    return [
        node("Mul", ["size", "triggered"], ["large"]),
        node("Max", ["large", "one"], ["shape"]),
        node("Expand", ["zero", "shape"], ["matrix"]),
        node("MatMul", ["matrix", "matrix"], ["squared"]),
        node("ReduceMax", ["squared"], ["nothing"], keepdims=0),
    ]


def _failing_nodes() -> list[Any]:
    """Looks beyond the end of a table of one where the trigger is set."""
    return [helper.make_node("Gather", ["table", "triggered"], ["nothing"], axis=0)]
