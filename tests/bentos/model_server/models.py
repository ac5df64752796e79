"""Small real models with contract and certificate, as export and verification leave them."""

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bentos.model_server.bundle import Limits
from bentos.model_server.certificate import Certificate, Comparison, Golden, Parity
from bentos.model_server.contract import (
    Contract,
    Entity,
    FeatureSource,
    GraphInput,
    Input,
    Outputs,
    Scalar,
)
from bentos.model_server.golden import answers
from bentos.model_server.session import ModelSession
from tests.bentos.model_server.variants import quantization

IRIS = ("sepal_length", "sepal_width", "petal_length", "petal_width")
SPECIES = ("setosa", "versicolor", "virginica")
TEXTS = ("win cash now", "see you at lunch", 'free "prize" inside', "minutes of the meeting")


@dataclass(frozen=True)
class Parts:
    """A model before it is written: change one part to make it wrong."""

    onnx: bytes
    contract: Contract
    certificate: Certificate

    def write(self, folder: Path, limits: Limits | None = None) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(self.onnx)
        (folder / "contract.json").write_bytes(self.contract.encode())
        (folder / "certificate.json").write_bytes(self.certificate.encode())
        (folder / "serving.json").write_bytes(msgspec.json.encode(limits or Limits()))
        return folder

    def session(self) -> ModelSession:
        return ModelSession(self.onnx, self.contract)


def _convert(model: Any, kind: Any) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from skl2onnx import convert_sklearn

        opsets = {"": 18, "ai.onnx.ml": 3}
        options = {id(model): {"zipmap": False}} if hasattr(model, "predict_proba") else None
        graph = convert_sklearn(
            model, initial_types=[("input", kind)], options=options, target_opset=opsets
        )
    data: bytes = graph.SerializeToString()
    return data


KINDS: tuple[Any, ...] = ("reference", "thresholds", "edges")


def certify(onnx: bytes, contract: Contract, rows: list[dict[str, Scalar]]) -> Certificate:
    session = ModelSession(onnx, contract)
    values = [tuple(row.get(field.name) for field in contract.inputs) for row in rows]
    return Certificate(
        model=contract.model,
        version=contract.version,
        variant=contract.variant,
        onnx_sha256=contract.onnx_sha256,
        contract_sha256=contract.digest(),
        libraries={"onnxruntime": "test"},
        parity=Parity(tuple(Comparison(k, len(rows), 0.0, 0, 0, 0) for k in KINDS), _limits()),
        golden=Golden(
            rows=tuple(rows),
            single=tuple(answers(session.predict([row]))[0] for row in values),
            batch=tuple(answers(session.predict(values))),
        ),
        quantization=quantization() if contract.variant != "fp32" else None,
    )


def _limits() -> Any:
    from bentos.model_server.certificate import Limits as ParityLimits

    return ParityLimits()


def _parts(onnx: bytes, rows: list[dict[str, Scalar]], **contract: Any) -> Parts:
    made = Contract(
        onnx_sha256=hashlib.sha256(onnx).hexdigest(),
        run_id="0123abcd",
        model_id="m-0123",
        example=rows[0],
        **contract,
    )
    return Parts(onnx, made, certify(onnx, made, rows))


def _iris_rows() -> tuple[Any, Any, list[dict[str, Scalar]]]:
    from sklearn.datasets import load_iris

    x, y = load_iris(return_X_y=True)
    rows: list[dict[str, Scalar]] = [
        dict(zip(IRIS, map(float, row), strict=True)) for row in x[::10]
    ]
    return x, y, rows


def iris(
    dtype: str = "float32", version: int = 3, variant: str = "fp32", *, turned: bool = False
) -> Parts:
    """A logistic regression; dtype: of the graph's input. The contract's fields are float64.

    turned: trained on each flower as the species after its own, so that it is always wrong.
    """
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
    from sklearn.linear_model import LogisticRegression

    x, y, rows = _iris_rows()
    species = np.array(SPECIES)[(y + turned) % len(SPECIES)]
    model = LogisticRegression(max_iter=1000).fit(x.astype(dtype), species)
    kind = FloatTensorType([None, 4]) if dtype == "float32" else DoubleTensorType([None, 4])
    return _parts(
        _convert(model, kind),
        rows,
        model="iris",
        version=version,
        variant=variant,
        inputs=tuple(Input(name, "float64") for name in IRIS),
        graph_inputs=(GraphInput("input", dtype, IRIS),),  # type: ignore[arg-type]
        outputs=Outputs("classification", "label", "probabilities", SPECIES),
    )


def iris_tree() -> Parts:
    """A decision tree: each row is computed by itself, so no result depends on the batch."""
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.tree import DecisionTreeClassifier

    x, y, rows = _iris_rows()
    model = DecisionTreeClassifier(max_depth=4, random_state=0).fit(x, np.array(SPECIES)[y])
    return _parts(
        _convert(model, FloatTensorType([None, 4])),
        rows,
        model="iris-tree",
        version=1,
        inputs=tuple(Input(name, "float32") for name in IRIS),
        graph_inputs=(GraphInput("input", "float32", IRIS),),
        outputs=Outputs("classification", "label", "probabilities", SPECIES),
    )


def petal_width() -> Parts:
    """A linear regression of one measurement, in micrometres, on the other three, in float32."""
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.linear_model import LinearRegression

    x, _, rows = _iris_rows()
    model = LinearRegression().fit(x[:, :3].astype("float32"), (x[:, 3] * 1e4).astype("float32"))
    return _parts(
        _convert(model, FloatTensorType([None, 3])),
        [{name: row[name] for name in IRIS[:3]} for row in rows],
        model="petal-width",
        version=1,
        inputs=tuple(Input(name, "float32") for name in IRIS[:3]),
        graph_inputs=(GraphInput("input", "float32", IRIS[:3]),),
        outputs=Outputs("regression", "variable"),
    )


def spam() -> Parts:
    """A text classifier with integer labels."""
    from skl2onnx.common.data_types import StringTensorType
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    words = TfidfVectorizer(lowercase=False, token_pattern="[a-z0-9_]+")  # noqa: S106
    model = make_pipeline(words, LogisticRegression()).fit(list(TEXTS), [1, 0, 1, 0])
    return _parts(
        _convert(model, StringTensorType([None])),
        [{"email_content": text} for text in TEXTS],
        model="spam-detector",
        version=2,
        variant="int8",
        inputs=(Input("email_content", "string", max_length=1000),),
        graph_inputs=(GraphInput("input", "string", ("email_content",), "vector"),),
        outputs=Outputs("classification", "label", "probabilities", (0, 1)),
    )


def mixed() -> Parts:
    """The sum of inputs of every dtype, in float32; the text counts nothing."""
    from onnx import TensorProto, helper

    def value(name: str, kind: int, *shape: int | None) -> Any:
        return helper.make_tensor_value_info(name, kind, [None, *shape])

    nodes = [
        helper.make_node("ReduceSum", ["numbers", "axes"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["visits"], ["counted"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["member"], ["one"], to=TensorProto.FLOAT),
        helper.make_node("Sum", ["sum", "counted", "one"], ["y"]),
    ]
    inputs = [
        value("numbers", TensorProto.FLOAT, 2),
        value("visits", TensorProto.INT64),
        value("member", TensorProto.BOOL),
        value("note", TensorProto.STRING),
    ]
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    output = [value("y", TensorProto.FLOAT)]
    graph = helper.make_graph(nodes, "mixed", inputs, output, [axes])
    onnx = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    ).SerializeToString()
    dtypes: dict[str, Any] = {
        "age": "int32",
        "income": "float64",
        "visits": "int64",
        "member": "bool",
        "note": "string",
    }
    vectors: tuple[Any, ...] = ("visits", "member", "note")
    return _parts(
        onnx,
        [{"age": 41, "income": 1000.5, "visits": 3, "member": True, "note": "x"}],
        model="mixed",
        version=1,
        inputs=tuple(Input(name, dtype) for name, dtype in dtypes.items()),
        graph_inputs=(
            GraphInput("numbers", "float32", ("age", "income")),
            *(GraphInput(name, dtypes[name], (name,), "vector") for name in vectors),
        ),
        outputs=Outputs("regression", "y"),
    )


CUSTOMERS = FeatureSource(
    "customers",
    (Entity("customer_id", "int64"),),
    ("age", "income", "visits", "member"),
    ("note",),
)


def by_customer(source: FeatureSource = CUSTOMERS) -> Parts:
    """`mixed`, whose numbers are looked up by customer; the request brings the note."""
    parts = mixed()
    contract = msgspec.structs.replace(parts.contract, feature_source=source)
    rows = [*parts.certificate.golden.rows]
    return Parts(parts.onnx, contract, certify(parts.onnx, contract, rows))
