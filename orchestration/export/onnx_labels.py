"""The classes of a logged ONNX graph, as its own nodes state them."""

from collections.abc import Sequence
from typing import Any

from bentos.model_server.contract import Dtype, Outputs

# What a label passes through unchanged.
_PASSING = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")


def stated_labels(model: Any, outputs: Outputs, dtype: Dtype | None) -> tuple[Any, ...] | None:
    """The classes in the order of the columns, as the nodes that make the label state them.

    None where they do not; conversion_parity then shows whether positions are right.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    name, node = outputs.prediction, makers.get(outputs.prediction)
    while node is not None and node.op_type in _PASSING:
        name, node = node.input[0], makers.get(node.input[0])
    if node is None:
        return None
    stated: Sequence[Any] | None = None
    if node.op_type == "ArgMax":
        stated = outputs.labels
    elif node.op_type in ("ArrayFeatureExtractor", "Gather"):
        stated = _constant(model, makers.get(node.input[0]), node.input[0])
    elif name == node.output[0]:
        stated = _classlabels(node)
    try:
        return None if stated is None else tuple(_as_answered(v, dtype) for v in stated)
    except ValueError:  # a cast of the labels that is not Python's
        return None


def _classlabels(node: Any) -> list[Any] | None:
    """What a classifier of ai.onnx.ml states."""
    for attribute in node.attribute:
        if attribute.name == "classlabels_strings" and attribute.strings:
            return list(attribute.strings)
        if attribute.name in ("classlabels_int64s", "classlabels_ints") and attribute.ints:
            return list(attribute.ints)
    return None


def _constant(model: Any, maker: Any, name: str) -> list[Any] | None:
    """The values of an initializer or of a Constant node."""
    from onnx import helper, numpy_helper

    for initializer in model.graph.initializer:
        if initializer.name == name:
            return list(numpy_helper.to_array(initializer).ravel().tolist())
    if maker is None or maker.op_type != "Constant":
        return None
    value = helper.get_attribute_value(maker.attribute[0])
    if maker.attribute[0].name == "value":
        value = numpy_helper.to_array(value).ravel().tolist()
    return list(value) if isinstance(value, Sequence) else None


def _as_answered(value: Any, dtype: Dtype | None) -> Any:
    """A class in the type in which the label is answered."""
    if dtype == "string":
        return value.decode() if isinstance(value, bytes) else str(value)
    return bool(value) if dtype == "bool" else int(value)
