"""The layers of a graph that can compute in int8: products of rows with constant weights."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

# A layer with fewer inputs or outputs gains nothing: to quantize its rows costs what is saved.
# The first layer of a table's network stays float so, which takes numbers of any size as they
# come, and the last one, whose errors nothing evens out.
FEWEST = 64
# Sums of more products of two int8 may leave int32.
MOST = 65_536

FLOAT, DOUBLE = 1, 11
# What these answer is never negative, so that all levels are for what there is.
_NEVER_NEGATIVE = {"Relu", "Sigmoid", "Softmax"}
_KEEPS_SIGN = {"Identity", "Cast", "Reshape", "Flatten", "Dropout"}


@dataclass(frozen=True)
class Layer:
    """A MatMul or Gemm. weights: (inputs, outputs), Gemm's alpha in them; bias: the name of what
    Gemm adds, or its values with Gemm's beta in them; positive: its rows hold no negative number.
    """

    output: str
    input: str
    weights: npt.NDArray[Any]
    bias: str | npt.NDArray[Any] | None
    positive: bool

    @property
    def dtype(self) -> Any:
        """float32 or float64."""
        return self.weights.dtype


def constants(graph: Any) -> dict[str, Any]:
    """The graph's constant tensors by name, as ONNX holds them."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            found.update((node.output[0], a.t) for a in node.attribute if a.name == "value")
    return found


def reads(node: Any) -> Iterator[str]:
    """The names of the values that a node takes, also inside of a branch or a loop."""
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from reads(inner)
        yield from (output.name for output in attribute.g.output)


def find_layers(graph: Any) -> dict[str, Layer]:
    """By the name of their output, in the order of the graph."""
    known = constants(graph)
    producers = {output: node for node in graph.node for output in node.output}
    layers = {}
    for node in graph.node:
        if layer := _layer(node, known, producers):
            layers[layer.output] = layer
    return layers


def _layer(node: Any, known: Mapping[str, Any], producers: Mapping[str, Any]) -> Layer | None:
    from onnx import helper, numpy_helper

    if node.domain or node.op_type not in ("MatMul", "Gemm") or node.input[0] in known:
        return None
    tensor = known.get(node.input[1])
    if tensor is None or tensor.data_type not in (FLOAT, DOUBLE) or len(tensor.dims) != 2:
        return None
    options = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    dims = tensor.dims[::-1] if options.get("transB") else tensor.dims
    if options.get("transA") or min(dims) < FEWEST or dims[0] > MOST:
        return None
    weights = numpy_helper.to_array(tensor)
    weights = (weights.T if options.get("transB") else weights) * weights.dtype.type(
        options.get("alpha", 1.0)
    )
    added = node.input[2] if len(node.input) > 2 else ""
    bias: str | npt.NDArray[Any] | None = added or None
    if added and options.get("beta", 1.0) != 1.0:
        if added not in known:
            return None
        bias = numpy_helper.to_array(known[added]) * weights.dtype.type(options["beta"])
    positive = _never_negative(node.input[0], producers)
    return Layer(node.output[0], node.input[0], weights, bias, positive)


def _never_negative(name: str, producers: Mapping[str, Any]) -> bool:
    while (node := producers.get(name)) is not None and node.op_type in _KEEPS_SIGN:
        name = node.input[0]
    return node is not None and node.op_type in _NEVER_NEGATIVE
