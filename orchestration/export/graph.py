"""An ONNX graph under construction: deterministic names, shared constants, typed tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestration.export.errors import UnservableModel

OPSET = 18
# ai.onnx.ml 5 has TreeEnsemble with float64 thresholds, leaves and sums
OPSETS = {"": OPSET, "ai.onnx.ml": 5, "com.microsoft": 1}
# what skl2onnx writes for trees, which ai.onnx.ml 5 no longer knows
_OLD_TREES = {"TreeEnsembleClassifier", "TreeEnsembleRegressor"}
IR_VERSION = 10

_DTYPES = {"float32": 1, "float64": 11, "int32": 6, "int64": 7, "bool": 9, "string": 8}


@dataclass(frozen=True)
class Tensor:
    """A value of the graph, (rows, width). dtype is a name as in the contract."""

    name: str
    dtype: str
    width: int


class Graph:
    """Nodes in the order they were added. The same calls give the same bytes."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._initializers: list[Any] = []
        self._inputs: list[Any] = []
        self._inlined = 0
        self._opsets = {"": OPSET}

    def input(self, name: str, dtype: str, width: int) -> Tensor:
        """A graph input of shape (rows, width)."""
        from onnx import helper

        self._inputs.append(helper.make_tensor_value_info(name, _DTYPES[dtype], [None, width]))
        return Tensor(name, dtype, width)

    def constant(self, array: npt.ArrayLike, dtype: str | None = None) -> str:
        """The name of an initializer; equal arrays share one."""
        from onnx import helper, numpy_helper

        values = np.ascontiguousarray(np.asarray(array, dtype=None if dtype == "string" else dtype))
        texts = values.dtype.kind in "UO"
        data = repr(values.tolist()).encode() if texts else values.tobytes()
        key = (str(values.dtype.kind) + str(values.dtype.itemsize), values.shape, data)
        if key not in self._constants:
            name = self._constants[key] = f"constant_{len(self._constants)}"
            if texts:
                flat = [str(v).encode() for v in values.ravel().tolist()]
                tensor = helper.make_tensor(name, _DTYPES["string"], values.shape, flat)
            else:
                tensor = numpy_helper.from_array(values, name)
            self._initializers.append(tensor)
        return self._constants[key]

    def node(self, op: str, inputs: Sequence[str], domain: str = "", **attributes: Any) -> str:
        """Add a node of one output and return that output's name."""
        from onnx import helper

        if domain:
            self._opsets[domain] = OPSETS[domain]
        name = f"{op}_{len(self._nodes)}"
        self._nodes.append(
            helper.make_node(op, list(inputs), [name], name=name, domain=domain, **attributes)
        )
        return name

    def cast(self, tensor: Tensor, dtype: str) -> Tensor:
        """The tensor in another dtype; itself where nothing changes."""
        if tensor.dtype == dtype:
            return tensor
        return Tensor(self.node("Cast", [tensor.name], to=_DTYPES[dtype]), dtype, tensor.width)

    def select(self, tensor: Tensor, columns: Sequence[int]) -> Tensor:
        """Some columns, in the given order."""
        if list(columns) == list(range(tensor.width)):
            return tensor
        index = self.constant(np.asarray(columns, dtype=np.int64))
        name = self.node("Gather", [tensor.name, index], axis=1)
        return Tensor(name, tensor.dtype, len(columns))

    def concat(self, tensors: Sequence[Tensor]) -> Tensor:
        """Side by side; float64 unless all are of one dtype, as NumPy's hstack does."""
        present = [t for t in tensors if t.width]
        if len(present) == 1:
            return present[0]
        dtypes = {t.dtype for t in present}
        dtype = dtypes.pop() if len(dtypes) == 1 else "float64"
        names = [self.cast(t, dtype).name for t in present]
        return Tensor(self.node("Concat", names, axis=1), dtype, sum(t.width for t in present))

    def apply(self, op: str, tensor: Tensor, other: npt.ArrayLike, width: int = 0) -> Tensor:
        """`tensor op constant` in the tensor's dtype, broadcast over the rows."""
        constant = self.constant(np.asarray(other, dtype=tensor.dtype))
        return Tensor(self.node(op, [tensor.name, constant]), tensor.dtype, width or tensor.width)

    def affine(self, x: Tensor, weights: npt.ArrayLike, bias: npt.ArrayLike) -> Tensor:
        """x W + b in x's dtype. weights: (features, outputs); bias: a number or (outputs,).

        Gemm for float64: ONNX Runtime folds a number multiplied before or after a MatMul into
        it as a float32 (MatMulScaleFusion). MatMul for float32, as quantization wants it.
        """
        matrix = np.asarray(weights, dtype=x.dtype)
        width = int(matrix.shape[1])
        offsets = self.constant(np.broadcast_to(np.asarray(bias, dtype=x.dtype), (width,)))
        if x.dtype == "float64":
            name = self.node("Gemm", [x.name, self.constant(matrix), offsets])
        else:
            product = self.node("MatMul", [x.name, self.constant(matrix)])
            name = self.node("Add", [product, offsets])
        return Tensor(name, x.dtype, width)

    def unary(self, op: str, tensor: Tensor) -> Tensor:
        """An elementwise function."""
        return Tensor(self.node(op, [tensor.name]), tensor.dtype, tensor.width)

    def inline(self, model: Any, feeds: Mapping[str, str]) -> list[str]:
        """Add another model's nodes; returns the names its outputs have here."""
        prefix = f"part_{self._inlined}_"
        self._inlined += 1
        renamed = {"": ""} | dict(feeds)

        def rename(name: str) -> str:
            return renamed.setdefault(name, prefix + name)

        for imported in model.opset_import:
            if imported.domain:
                self._opsets[imported.domain] = OPSETS.get(imported.domain, imported.version)
        for initializer in model.graph.initializer:
            initializer.name = rename(initializer.name)
            self._initializers.append(initializer)
        for i, node in enumerate(model.graph.node):
            node.name = f"{prefix}{node.op_type}_{i}"
            node.input[:] = [rename(n) for n in node.input]
            node.output[:] = [rename(n) for n in node.output]
            self._nodes.append(node)
        return [rename(o.name) for o in model.graph.output]

    def _settle_trees(self) -> None:
        operators = {node.op_type for node in self._nodes}
        if operators & _OLD_TREES:
            if "TreeEnsemble" in operators:
                raise UnservableModel(
                    "trees inside an ensemble that only skl2onnx can convert cannot be joined with "
                    "other trees; use a single ensemble, or VotingClassifier or Bagging"
                )
            self._opsets["ai.onnx.ml"] = 3

    def build(self, outputs: Sequence[tuple[str, str, str, int | None]]) -> bytes:
        """Serialise. outputs: (name inside, name outside, dtype, width; None for (rows,)).

        Opset imports are sorted and unique, and there is no producer version in the bytes.
        """
        from onnx import helper

        infos = []
        for inner, outer, dtype, width in outputs:
            self._nodes.append(helper.make_node("Identity", [inner], [outer], name=outer))
            shape = [None] if width is None else [None, width]
            infos.append(helper.make_tensor_value_info(outer, _DTYPES[dtype], shape))
        self._settle_trees()
        graph = helper.make_graph(
            self._nodes, "slipway", self._inputs, infos, initializer=self._initializers
        )
        opsets = [helper.make_opsetid(d, v) for d, v in sorted(self._opsets.items())]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        model.producer_name = "slipway"
        data: bytes = model.SerializeToString(deterministic=True)
        return data
