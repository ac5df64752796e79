"""Layers that compute in int8: MatMulInteger with a scale for each row or a fixed one.

No instruction may overflow: without VNNI, ONNX Runtime adds two products of an unsigned and a
signed byte in 16 bits and cuts what goes beyond. 2 x 127 x 127 and 2 x 255 x 63 both fit in, so a
row without negative numbers is quantized to 0..127 and its weights to -127..127, any other to
-128..127 (as 0..255 around 128) and its weights to -63..63. The sums are exact on any CPU.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestration.quantization.layers import FLOAT, Layer, reads

_LEVELS = 127
_WEIGHT_LEVELS = {True: 127, False: 63}
_ZERO_POINT = {True: 0, False: 128}
# A row of zeros has no scale.
_LEAST_PEAK = 1e-30
_REDUCTION_TAKES_AXES = 18  # opset


def rewrite(model: Any, layers: Mapping[str, Layer], peaks: Mapping[str, float] | None) -> Any:
    """A copy of the model with the layers in int8.

    peaks: by layer, the largest magnitude that its rows are expected to have (static); without
    them each row's scale comes from the row (dynamic).
    """
    from onnx import ModelProto

    changed = ModelProto()
    changed.CopyFrom(model)
    opset = next(o.version for o in changed.opset_import if o.domain == "")
    nodes = []
    for node in changed.graph.node:
        layer = layers.get(node.output[0]) if node.output else None
        if layer is None:
            nodes.append(node)
            continue
        part = _Int8(layer, None if peaks is None else peaks[layer.output], opset)
        nodes.extend(part.nodes())
        changed.graph.initializer.extend(part.initializers)
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    _drop_unused(changed.graph)
    return changed


class _Int8:
    """The nodes of one layer."""

    def __init__(self, layer: Layer, peak: float | None, opset: int) -> None:
        self._layer = layer
        self._peak = peak
        self._opset = opset
        self._nodes: list[Any] = []
        self.initializers: list[Any] = []

    def nodes(self) -> list[Any]:
        """In order; the last one has the layer's output."""
        layer, dynamic = self._layer, self._peak is None
        weights, scales = quantized_weights(layer)
        rows, row_peaks = self._each_to_one() if dynamic else (self._cut_off(), "")
        step = np.float32((1.0 if self._peak is None else self._peak) / _LEVELS)
        zero = self._constant("zero", np.uint8(_ZERO_POINT[layer.positive]))
        taken = self._node("QuantizeLinear", [rows, self._constant("step", step), zero])
        product = self._node("MatMulInteger", [taken, self._constant("weights", weights), zero])
        floats = self._node("Cast", [product], to=FLOAT)
        value = self._node("Mul", [floats, self._constant("scales", scales * step)])
        if dynamic:
            value = self._node("Mul", [value, row_peaks], "rescaled")
        if layer.bias is not None:
            bias = layer.bias
            named = bias if isinstance(bias, str) else self._constant("bias", bias)
            self._node("Add", [value, named])
        self._nodes[-1].output[0] = layer.output
        return self._nodes

    def _each_to_one(self) -> tuple[str, str]:
        """Each row over its largest magnitude, and these."""
        magnitudes = x = self._layer.input
        if not self._layer.positive:
            magnitudes = self._node("Abs", [x])
        if self._opset < _REDUCTION_TAKES_AXES:
            peaks = self._node("ReduceMax", [magnitudes], axes=[-1], keepdims=1)
        else:
            axes = self._constant("axes", np.array([-1]))
            peaks = self._node("ReduceMax", [magnitudes, axes], keepdims=1)
        peaks = self._node("Max", [peaks, self._constant("least", np.float32(_LEAST_PEAK))])
        return self._node("Div", [x, peaks]), peaks

    def _cut_off(self) -> str:
        """Nothing beyond the peak. With negative numbers the 256 values of a byte see to it."""
        if not self._layer.positive:
            return self._layer.input
        return self._node(
            "Min", [self._layer.input, self._constant("peak", np.float32(self._peak))]
        )

    def _constant(self, name: str, values: Any) -> str:
        from onnx import numpy_helper

        name = f"{self._layer.output}/int8/{name}"
        self.initializers.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def _node(self, operator: str, inputs: list[str], name: str = "", **attributes: Any) -> str:
        from onnx import helper

        name = f"{self._layer.output}/int8/{name or operator}"
        self._nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name


def quantized_weights(layer: Layer) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """int8 (inputs, outputs), and what a unit of each column stands for."""
    weights = layer.weights.astype(np.float64)
    largest = np.abs(weights).max(axis=0)
    scales = np.where(largest > 0, largest, 1.0) / _WEIGHT_LEVELS[layer.positive]
    return np.rint(weights / scales).astype(np.int8), scales.astype(np.float32)


def _drop_unused(graph: Any) -> None:
    """The weights in float, and whatever described them."""
    used = {name for node in graph.node for name in reads(node)} | {o.name for o in graph.output}
    unused = {tensor.name for tensor in graph.initializer} - used
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    # before IR version 4 each constant is among the inputs
    inputs = [value for value in graph.input if value.name not in unused]
    del graph.input[:]
    graph.input.extend(inputs)
    del graph.initializer[:]
    graph.initializer.extend(kept)
    nodes = [node for node in graph.node if set(node.output) & used]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    del graph.quantization_annotation[:]


def int8_operators(model: Any) -> Iterator[str]:
    """The type of each operator that computes in int8."""
    kinds = {"MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv"}
    return (node.op_type for node in model.graph.node if node.op_type in kinds)
