"""float64 layers to float32, with what lies between them: integer products are rescaled in it."""

from collections.abc import Collection
from typing import Any

import numpy as np

from orchestration.quantization.layers import (
    DOUBLE,
    FLOAT,
    constants,
    find_layers,
    reads,
)

# What follows a layer and takes constants only beside it is computed as the layer is.
_FOLLOWS = {
    "Add",
    "Div",
    "Elu",
    "Gemm",
    "Identity",
    "LeakyRelu",
    "MatMul",
    "Mul",
    "Relu",
    "Sigmoid",
    "Sub",
    "Tanh",
}
# float32 ends at 3e38, and products of such numbers before: infinity less infinity is no number.
_LARGEST = 1e12
_MARK = "/float32"


def narrow(graph: Any) -> None:
    """Change the graph in place; its inputs and outputs keep their types."""
    wide = {name for name, layer in find_layers(graph).items() if layer.dtype == np.float64}
    if wide:
        _Narrowing(graph, wide).run()


class _Narrowing:
    """One pass over the nodes. A float64 value `x` that is now computed in float32 is `x/float32`,
    and is cast back where something else reads it."""

    def __init__(self, graph: Any, layers: Collection[str]) -> None:
        self._graph = graph
        self._layers = layers
        self._constants = constants(graph)
        self._narrow: set[str] = set()
        self._widened: set[str] = set()
        self._nodes: list[Any] = []

    def run(self) -> None:
        """See `narrow`."""
        for node in self._graph.node:
            if node.output[0] in self._layers or self._follows(node):
                self._compute_narrow(node)
            else:
                self._widen(list(reads(node)))
                self._nodes.append(node)
        self._widen([output.name for output in self._graph.output])
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)

    def _follows(self, node: Any) -> bool:
        given = [name for name in node.input if name and name not in self._constants]
        return (
            not node.domain
            and node.op_type in _FOLLOWS
            and bool(given)
            and all(name in self._narrow for name in given)
        )

    def _compute_narrow(self, node: Any) -> None:
        for i, name in enumerate(node.input):
            if name in self._constants:
                node.input[i] = self._narrow_constant(name)
            elif name:
                node.input[i] = self._narrowed(name)
        name = node.output[0]
        node.output[0] = name + _MARK
        self._narrow.add(name)
        self._nodes.append(node)

    def _narrow_constant(self, name: str) -> str:
        from onnx import numpy_helper

        tensor = self._constants[name]
        if tensor.data_type != DOUBLE:
            return name
        if (narrow := name + _MARK) not in {t.name for t in self._graph.initializer}:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            self._graph.initializer.append(numpy_helper.from_array(values, narrow))
        return narrow

    def _narrowed(self, name: str) -> str:
        """The float32 value, made where it does not exist yet."""
        from onnx import helper, numpy_helper

        narrow = name + _MARK
        if name not in self._narrow:
            value = name
            # not Clip, which ONNX Runtime cannot fuse with a Relu of float64
            for operator, limit in (("Max", -_LARGEST), ("Min", _LARGEST)):
                constant, bounded = f"{narrow}/{operator}_limit", f"{narrow}/{operator}"
                tensor = numpy_helper.from_array(np.array(limit), constant)
                self._graph.initializer.append(tensor)
                self._nodes.append(
                    helper.make_node(operator, [value, constant], [bounded], name=bounded)
                )
                value = bounded
            self._nodes.append(helper.make_node("Cast", [value], [narrow], name=narrow, to=FLOAT))
            self._narrow.add(name)
            self._widened.add(name)  # it is there in float64 already
        return narrow

    def _widen(self, names: Collection[str]) -> None:
        """Cast back what is needed in float64."""
        from onnx import helper

        for name in names:
            if name in self._narrow and name not in self._widened:
                narrow, cast = name + _MARK, f"{name}/float64"
                self._nodes.append(helper.make_node("Cast", [narrow], [name], name=cast, to=DOUBLE))
                self._widened.add(name)
