"""What the rows of each layer are like, on rows of the reference."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from msgspec.structs import replace

from bentos.model_server.contract import Contract
from bentos.model_server.session import ModelSession, Predictions, feeds
from orchestration.export.errors import ExportError
from orchestration.quantization.layers import FLOAT, Layer
from orchestration.verification.compare import answers as each_answer
from orchestration.verification.compare import is_sound
from orchestration.verification.rows import Values

_BATCH = 256
_PEAK = "/peak"


def session_of(model: bytes, contract: Contract) -> ModelSession:
    """The session that would serve these bytes."""
    digest = hashlib.sha256(model).hexdigest()
    return ModelSession(model, replace(contract, onnx_sha256=digest))


def answers(session: ModelSession, rows: Sequence[Values]) -> Predictions:
    """To all rows, in batches."""
    parts = [session.predict(rows[i : i + _BATCH]) for i in range(0, len(rows), _BATCH)]
    tables = [part.probabilities for part in parts if part.probabilities is not None]
    labels = [label for part in parts for label in part.labels]
    return Predictions(labels, np.concatenate(tables) if tables else None)


def answers_with_numbers(session: ModelSession, rows: Sequence[Values]) -> list[Values]:
    """The rows that get an answer without NaN and infinity."""
    found = each_answer(session.predict, rows)
    return [row for row, answer in zip(rows, found, strict=True) if is_sound(answer)]


def peaks(
    model: Any, layers: Mapping[str, Layer], contract: Contract, rows: Sequence[Values]
) -> dict[str, float]:
    """The largest magnitude that came to each layer, by the layer's output."""
    from onnx import ModelProto

    watched = ModelProto()
    watched.CopyFrom(model)
    names = {output: output + _PEAK for output in layers}
    for output, layer in layers.items():
        _watch(watched.graph, layer.input, names[output])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found = dict.fromkeys(layers, 0.0)
    for start in range(0, len(rows), _BATCH):
        arrays = feeds(contract, rows[start : start + _BATCH])
        for output, value in zip(layers, session.run(list(names.values()), arrays), strict=True):
            found[output] = max(found[output], float(value))
    if unbounded := [name for name, peak in found.items() if not np.isfinite(peak)]:
        raise ExportError(
            f"the reference rows drive layer {unbounded[0]} to infinity; "
            "scale the inputs before the network and train it again"
        )
    return found


def _watch(graph: Any, value: str, name: str) -> None:
    """One output more: the largest magnitude of a value."""
    from onnx import helper

    graph.node.append(helper.make_node("Abs", [value], [f"{name}/abs"], name=f"{name}/abs"))
    graph.node.append(helper.make_node("ReduceMax", [f"{name}/abs"], [name], name=name, keepdims=0))
    graph.output.append(helper.make_tensor_value_info(name, FLOAT, []))


def error(expected: Predictions, actual: Predictions) -> float:
    """The mean absolute difference: of probabilities, else of values; of labels alone, the share
    that differs."""
    if expected.probabilities is not None and actual.probabilities is not None:
        a, b = expected.probabilities, actual.probabilities
    elif isinstance(expected.labels[0], float):
        a, b = np.asarray(expected.labels), np.asarray(actual.labels)
    else:
        pairs = zip(expected.labels, actual.labels, strict=True)
        return float(np.mean([label != other for label, other in pairs]))
    return float(np.mean(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64))))
