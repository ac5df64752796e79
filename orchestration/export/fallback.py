"""Steps without a converter of ours: skl2onnx's, in float64 where ONNX Runtime can run it.

Nothing is assumed of their exactness: verification decides.
"""

import warnings
from typing import Any

from orchestration.export.errors import UnservableModel
from orchestration.export.graph import OPSET, Graph, Tensor
from orchestration.export.registry import Scores, qualified

_ONNX_TO_NAME = {1: "float32", 11: "float64", 7: "int64", 9: "bool", 8: "string"}


def convert_transformer(step: Any, x: Tensor, graph: Graph) -> Tensor:
    """One output, a matrix."""
    model, x = _convert(step, x, graph, {})
    (name,) = graph.inline(model, {"x": x.name})
    output = model.graph.output[0].type.tensor_type
    dims = output.shape.dim
    width = int(dims[1].dim_value) if len(dims) == 2 else 0
    if not width:
        width = len(step.get_feature_names_out())
    return graph.cast(Tensor(name, _ONNX_TO_NAME[output.elem_type], width), "float64")


def convert_estimator(step: Any, x: Tensor, graph: Graph) -> Tensor | Scores:
    """A classifier's index of the class and probabilities, or a regressor's value."""
    classifier = hasattr(step, "classes_")
    options = {id(step): {"zipmap": False}} if classifier else {}
    model, x = _convert(step, x, graph, options)
    names = graph.inline(model, {"x": x.name})
    outputs = [o.type.tensor_type for o in model.graph.output]
    if not classifier:
        shape = graph.constant([-1, 1], "int64")
        flat = graph.node("Reshape", [names[0], shape])
        return Tensor(flat, _ONNX_TO_NAME[outputs[0].elem_type], 1)
    index = _index(step, names[0], _ONNX_TO_NAME[outputs[0].elem_type], graph)
    if not hasattr(step, "predict_proba"):
        return Scores(index, None)
    dtype = _ONNX_TO_NAME[outputs[1].elem_type]
    return Scores(index, Tensor(names[1], dtype, len(step.classes_)))


def _index(step: Any, label: str, dtype: str, graph: Graph) -> str:
    """A label back to its position among the classes."""
    places = list(range(len(step.classes_)))
    if dtype == "string":
        return graph.node(
            "LabelEncoder",
            [label],
            domain="ai.onnx.ml",
            default_int64=0,
            keys_strings=[str(c) for c in step.classes_],
            values_int64s=places,
        )
    return graph.node(
        "LabelEncoder",
        [label],
        domain="ai.onnx.ml",
        default_int64=0,
        keys_int64s=[int(c) for c in step.classes_],
        values_int64s=places,
    )


def _convert(step: Any, x: Tensor, graph: Graph, options: dict[int, Any]) -> tuple[Any, Tensor]:
    """The step as an ONNX model of its own and the input it takes: float64, else float32."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    reason = ""
    for dtype, kind in (("float64", DoubleTensorType), ("float32", FloatTensorType)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what it warns of, verification measures
                model = to_onnx(
                    step,
                    initial_types=[("x", kind([None, x.width]))],
                    options=options,
                    target_opset={"": OPSET, "ai.onnx.ml": 3},
                )
            _loads(model)
        except Exception as error:  # skl2onnx and ONNX Runtime raise without a common base
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            continue
        return model, graph.cast(x, dtype)
    raise UnservableModel(
        f"{qualified(step)} cannot become ONNX: {reason[:200]}; use a scikit-learn step that "
        "skl2onnx supports, or log the model as ONNX yourself (mlflow.onnx.log_model)"
    )


def _loads(model: Any) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
