"""Models that were logged as ONNX: taken as they are, with what the contract needs.

Only a graph of probabilities without a label gets a node of ours (ArgMax). The reference of such
a model is the logged file itself in a plain ONNX Runtime session.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace

from bentos.model_server.certificate import Limits
from bentos.model_server.contract import Dtype, GraphInput, Outputs
from bentos.model_server.session import Predictions
from orchestration.export.data import Requirements
from orchestration.export.errors import UnservableModel
from orchestration.export.export import Converted
from orchestration.export.native import NativeModel
from orchestration.export.onnx_labels import stated_labels
from orchestration.export.signature import Field

if TYPE_CHECKING:
    import pandas as pd

_ELEMENTS: dict[int, Dtype] = {
    1: "float32",
    11: "float64",
    6: "int32",
    7: "int64",
    9: "bool",
    8: "string",
}
_FLOATS = ("float32", "float64")
_LABEL = "slipway_label"
LABELS_FIX = (
    "let the graph take its label from a constant table of the classes (ArrayFeatureExtractor or "
    "Gather of the ArgMax) or from a classifier with classlabels, one class for each probability "
    "column and in their order, and log it again"
)


@dataclass(frozen=True)
class Port:
    """An input or output of a graph. shape: None for a dimension that is free."""

    name: str
    dtype: Dtype | None
    shape: tuple[int | None, ...]


class LoggedGraph:
    """A logged ONNX file: what it takes and answers, and its answers as it stands.

    tells_classes: the graph states what its probability columns are; else they are positions.
    Raises UnservableModel with the fix where it cannot be served.
    """

    def __init__(self, data: bytes, fields: Sequence[Field]) -> None:
        self._data = bytes(data)
        model = _checked(self._data)
        self.graph_inputs = _inputs([_port(i) for i in _fed(model)], fields)
        ports = [_port(o) for o in model.graph.output]
        outputs, self._appended = _outputs(ports)
        self.outputs, self.tells_classes = outputs, True
        if outputs.kind == "classification" and not self._appended:
            self.outputs, self.tells_classes = _named(model, outputs, ports)
        self._model = model

    def servable(self) -> bytes:
        """The bytes to serve: the logged ones, or with the label appended."""
        return _with_label(self._model, self.outputs) if self._appended else self._data

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        try:
            return onnxruntime.InferenceSession(
                self._data, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise UnservableModel(
                f"ONNX Runtime cannot load the logged model: {str(error).splitlines()[0]}; "
                "export it with an older opset and log it again"
            ) from error

    def predict(self, frame: "pd.DataFrame") -> Predictions:
        """The answers of the logged file itself, without what was appended."""
        arrays = {}
        for graph_input in self.graph_inputs:
            dtype: Any = object if graph_input.dtype == "string" else graph_input.dtype
            array = frame[list(graph_input.columns)].to_numpy(dtype=dtype)
            arrays[graph_input.name] = array[:, 0] if graph_input.shape == "vector" else array
        names = [n for n in (self.outputs.prediction, self.outputs.probabilities) if n]
        results = self._session.run([n for n in names if n != _LABEL], arrays)
        probabilities = np.asarray(results[-1]) if self.outputs.probabilities else None
        labels = np.argmax(results[-1], axis=1) if self._appended else np.asarray(results[0])
        if labels.ndim > 1:
            labels = labels.reshape(len(labels), -1)[:, 0]
        return Predictions(labels.tolist(), probabilities)


def adopt(native: NativeModel) -> Converted:
    """The logged graph with what the contract needs.

    UnservableModel where the probability columns get names that the input example contradicts.
    """
    logged = native.logged
    if not logged.tells_classes and native.example is not None:
        _refuse_contradiction(logged, native.example)
    return Converted(logged.servable(), logged.graph_inputs, logged.outputs, Requirements())


def _checked(data: bytes) -> Any:
    import onnx

    try:
        model = onnx.load_model_from_string(data)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf and the checker raise without a common base
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise UnservableModel(
            f"the logged file is no valid ONNX model ({reason[:200]}); check it with "
            "onnx.checker.check_model and log it again"
        ) from error
    if any(i.data_location == onnx.TensorProto.EXTERNAL for i in model.graph.initializer):
        raise UnservableModel(
            "the ONNX model keeps its weights in separate files; save it with "
            "external_data=False and log it again"
        )
    return model


def _fed(model: Any) -> list[Any]:
    constants = {i.name for i in model.graph.initializer}
    return [i for i in model.graph.input if i.name not in constants]


def _port(value: Any) -> Port:
    tensor = value.type.tensor_type
    known = value.type.WhichOneof("value") == "tensor_type"
    shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
    return Port(value.name, _ELEMENTS.get(tensor.elem_type) if known else None, shape)


def _inputs(ports: Sequence[Port], fields: Sequence[Field]) -> tuple[GraphInput, ...]:
    """One matrix of all columns, or one input for each column, by name or in order."""
    for port in ports:
        if port.dtype is None or len(port.shape) not in (1, 2):
            raise UnservableModel(
                f"the graph's input {port.name} is not served; export it with inputs of shape "
                "(rows, columns) or (rows,) of numbers or strings"
            )
        if port.shape[0] is not None:
            raise UnservableModel(
                f"the graph's input {port.name} is fixed to {port.shape[0]} rows; export it with a "
                "free batch dimension (dynamic_shapes)"
            )
    names = [field.name for field in fields]
    if len(ports) == 1 and len(ports[0].shape) == 2:
        return (_graph_input(ports[0], names),)
    by_name = {port.name: port for port in ports}
    if set(by_name) == set(names):
        return tuple(_graph_input(by_name[name], [name]) for name in names)
    if len(ports) == len(names):
        return tuple(_graph_input(p, [n]) for p, n in zip(ports, names, strict=True))
    return _by_prefix(ports, names)


def _by_prefix(ports: Sequence[Port], names: Sequence[str]) -> tuple[GraphInput, ...]:
    """Several matrices: a named tensor of the signature became `<name>_0`, `<name>_1`, ..."""
    result = []
    for port in ports:
        width = port.shape[1] if len(port.shape) == 2 else 1
        columns = [f"{port.name}_{i}" for i in range(width or 0)]
        result.append(_graph_input(port, columns if set(columns) <= set(names) else []))
    return tuple(result)


def _graph_input(port: Port, columns: Sequence[str]) -> GraphInput:
    width = port.shape[1] if len(port.shape) == 2 else 1
    if not columns or (width is not None and width != len(columns)) or port.dtype is None:
        raise UnservableModel(
            f"the graph's input {port.name} takes {width} columns, the signature gives "
            f"{len(columns)}; log it with the signature of one column for each"
        )
    shape = "matrix" if len(port.shape) == 2 else "vector"
    return GraphInput(port.name, port.dtype, tuple(columns), shape)  # type: ignore[arg-type]


def _outputs(ports: Sequence[Port]) -> tuple[Outputs, bool]:
    """Which output is what, and whether the label must be appended.

    A one-dimensional (or one-column) output of integers, strings or booleans is the label; a
    matrix of floats beside it the probabilities. One float a row alone is a regression; a matrix
    of several alone is probabilities. Where a label may be among outputs of unstated width, none is
    made up.
    """
    if any(port.dtype is None for port in ports):
        raise UnservableModel(
            "the graph answers with a list of maps (ZipMap); convert it with "
            "options={'zipmap': False} and log it again"
        )
    labels = [p for p in ports if p.dtype not in _FLOATS and _columns(p) == 1]
    floats = [p for p in ports if p.dtype in _FLOATS]
    wide = [p for p in floats if (_columns(p) or 0) > 1]
    if len(labels) == 1:
        probabilities = wide or [p for p in floats if _columns(p) is None]
        if not probabilities:
            return Outputs("classification", labels[0].name), False
        classes = _columns(probabilities[0]) or 0
        return Outputs(
            "classification", labels[0].name, probabilities[0].name, tuple(range(classes))
        ), False
    unclear = [p for p in ports if p.dtype not in _FLOATS and _columns(p) is None]
    if len(wide) == 1 and not labels and not unclear:
        places = tuple(range(_columns(wide[0]) or 0))
        return Outputs("classification", _LABEL, wide[0].name, places), True
    if len(floats) == 1 and not labels and _columns(floats[0]) == 1:
        return Outputs("regression", floats[0].name), False
    raise UnservableModel(
        f"the graph's outputs {[(p.name, p.dtype, p.shape) for p in ports]} are neither a label "
        "with probabilities, nor probabilities, nor one value a row; export it with one of these"
    )


def _columns(port: Port) -> int | None:
    return 1 if len(port.shape) == 1 else port.shape[1] if len(port.shape) == 2 else None


def _named(model: Any, outputs: Outputs, ports: Sequence[Port]) -> tuple[Outputs, bool]:
    """The outputs with the classes that the graph states, else positions; and whether it does.

    UnservableModel where there is another number of classes than of probability columns.
    """
    dtypes = {port.name: port.dtype for port in ports}
    stated = stated_labels(model, outputs, dtypes[outputs.prediction])
    columns = len(outputs.labels)
    labels = outputs.labels if stated is None else stated
    if outputs.probabilities is not None and (
        not labels or len(labels) != (columns or len(labels))
    ):
        raise UnservableModel(
            f"the graph states {len(labels)} classes and probabilities of "
            f"{columns or 'any number of'} columns: {LABELS_FIX}"
        )
    return replace(outputs, labels=labels), stated is not None


def _with_label(model: Any, outputs: Outputs) -> bytes:
    """The graph with the position of the highest probability as its label."""
    from onnx import TensorProto, helper

    node = helper.make_node(
        "ArgMax", [outputs.probabilities], [_LABEL], name=_LABEL, axis=1, keepdims=0
    )
    model.graph.node.append(node)
    model.graph.output.append(helper.make_tensor_value_info(_LABEL, TensorProto.INT64, [None]))
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def misnamed(
    labels: Sequence[Any], label: Any, probabilities: Sequence[float], tolerance: float
) -> bool:
    """Whether the label is another class than the one whose column is highest.

    labels: the classes in the order of the columns. Columns within the tolerance of the highest
    are as high; where one is no number, none is highest.
    """
    if len(labels) != len(probabilities):
        return True
    if not all(map(math.isfinite, probabilities)):
        return False
    highest = max(probabilities)
    least = highest - tolerance * max(1.0, abs(highest))
    return all(v < least or name != label for name, v in zip(labels, probabilities, strict=True))


def _refuse_contradiction(logged: LoggedGraph, example: "pd.DataFrame") -> None:
    """UnservableModel where an answer to the example shows that positions are wrong names."""
    try:
        answer = logged.predict(example)
    except MemoryError:
        raise
    except Exception:  # what does not run shows nothing; the contract's example is tried next
        return
    if answer.probabilities is None:
        return
    labels, rows = logged.outputs.labels, answer.probabilities.astype(np.float64).tolist()
    for label, row in zip(answer.labels, rows, strict=True):
        if misnamed(labels, label, row, Limits().tolerance):
            raise UnservableModel(
                f"the graph does not tell its classes, and it answers {label!r} where the highest "
                f"probability would be named {labels[int(np.argmax(row))]!r}: {LABELS_FIX}"
            )
