"""Models with inputs that may be missing, with labels of any kind, and that fail on some rows."""

import hashlib
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from bentos.model_server.contract import Contract, GraphInput, Input, Outputs, TextPreprocessing
from tests.bentos.model_server.models import Parts, certify


def _value(name: str, kind: int, *shape: int | None) -> Any:
    return helper.make_tensor_value_info(name, kind, [None, *shape])


def _parts(nodes: list[Any], fed: list[Any], constants: list[Any], **contract: Any) -> Parts:
    graph = helper.make_graph(nodes, "g", fed, [_value("y", TensorProto.FLOAT)], constants)
    return _made(graph, Outputs("regression", "y"), **contract)


def _made(graph: Any, outputs: Outputs, **contract: Any) -> Parts:
    opsets = [helper.make_opsetid("", 19)]
    onnx = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    digest = hashlib.sha256(onnx).hexdigest()
    made = Contract(version=1, onnx_sha256=digest, outputs=outputs, **contract)
    return Parts(onnx, made, certify(onnx, made, [made.example]))


NUMBERS = ("age", "grade", "income", "visits", "member")


def optional() -> Parts:
    """The sum of the numbers, a missing one as -1000, and 0.5 for the plan `basic`."""
    nodes = [
        helper.make_node("IsNaN", ["numbers"], ["missing"]),
        helper.make_node("Where", ["missing", "stand_in", "numbers"], ["filled"]),
        helper.make_node("ReduceSum", ["filled", "axes"], ["sum"], keepdims=0),
        helper.make_node("Equal", ["plan", "basic"], ["is_basic"]),
        helper.make_node("Cast", ["is_basic"], ["one"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["one", "half"], ["more"]),
        helper.make_node("Add", ["sum", "more"], ["y"]),
    ]
    constants = [
        helper.make_tensor("stand_in", TensorProto.FLOAT, [1], [-1000.0]),
        helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
        helper.make_tensor("basic", TensorProto.STRING, [1], [b"basic"]),
        helper.make_tensor("half", TensorProto.FLOAT, [1], [0.5]),
    ]
    lower = TextPreprocessing(lowercase=True, strip_accents=True)
    return _parts(
        nodes,
        [
            _value("numbers", TensorProto.FLOAT, len(NUMBERS)),
            _value("plan", TensorProto.STRING),
            _value("note", TensorProto.STRING),
        ],
        constants,
        model="optional",
        inputs=(
            Input("age", "int32", required=False, minimum=0.5, maximum=130),
            Input("grade", "float32", required=False, categories=(1, 2, 3)),
            Input("income", "float64", required=False, minimum=-0.1, maximum=0.3),
            Input("visits", "int64", required=False, categories=(1, 2**53 + 1, 2**60 + 2**36 + 1)),
            Input("member", "bool", required=False),
            Input("plan", "string", categories=("Bäsic", "basic", "pro"), text=lower),
            Input("note", "string", required=False, max_length=3),
        ),
        graph_inputs=(
            GraphInput("numbers", "float32", NUMBERS),
            GraphInput("plan", "string", ("plan",), "vector"),
            GraphInput("note", "string", ("note",), "vector"),
        ),
        example={"plan": "pro"},
    )


def looked_up_in_ten() -> Parts:
    """The tenth of a place; ONNX Runtime fails on a batch with a place beyond 9."""
    return _parts(
        [helper.make_node("Gather", ["table", "place"], ["y"])],
        [_value("place", TensorProto.INT64)],
        [helper.make_tensor("table", TensorProto.FLOAT, [10], [i / 10 for i in range(10)])],
        model="places",
        inputs=(Input("place", "int64"),),
        graph_inputs=(GraphInput("place", "int64", ("place",), "vector"),),
        example={"place": 1},
    )


def labelled(*labels: str | int | float | bool) -> Parts:
    """The label at a place."""
    kind = helper.np_dtype_to_tensor_dtype(np.asarray(labels).dtype)
    kind = TensorProto.STRING if isinstance(labels[0], str) else kind
    graph = helper.make_graph(
        [helper.make_node("Gather", ["labels", "place"], ["label"])],
        "g",
        [_value("place", TensorProto.INT64)],
        [_value("label", kind)],
        [helper.make_tensor("labels", kind, [len(labels)], labels)],
    )
    return _made(
        graph,
        Outputs("classification", "label", labels=labels),
        model="labelled",
        inputs=(Input("place", "int64", minimum=0, maximum=len(labels) - 1),),
        graph_inputs=(GraphInput("place", "int64", ("place",), "vector"),),
        example={"place": 0},
    )
