import json
import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.model_server.codec import Codec, Row
from bentos.model_server.contract import Contract, GraphInput, Input, Outputs
from bentos.model_server.inference_request import read_request
from bentos.model_server.problems import Problem
from bentos.model_server.tensor_rows import DATATYPES, TensorRows
from bentos.model_server.tensors import NUMPY, datatype_of, from_binary, from_json, to_binary
from tests.bentos.model_server.test_codec import CODEC, EXAMPLE, INPUTS
from tests.bentos.model_server.test_codec_properties import UNHURRIED, VALUES

ROWS = TensorRows(CODEC.contract, CODEC.fields, max_rows=3)


def decode(document: Any, binary: bytes = b"", rows: TensorRows = ROWS) -> list[Row]:
    header = json.dumps(document).encode()
    request, rest = read_request(header + binary, str(len(header)).encode())
    return rows.decode(request.inputs, rest)


def refusal(document: Any, binary: bytes = b"", rows: TensorRows = ROWS) -> Problem:
    with pytest.raises(Problem) as caught:
        decode(document, binary, rows)
    return caught.value


def tensors(rows: list[dict[str, Any]], **changes: Any) -> list[dict[str, Any]]:
    """One JSON tensor for each field, of its own datatype."""
    return [
        {
            "name": field.name,
            "shape": [len(rows)],
            "datatype": DATATYPES[field.dtype],
            "data": [row[field.name] for row in rows],
        }
        | changes.get(field.name, {})
        for field in INPUTS
    ]


def as_binary(inputs: list[dict[str, Any]]) -> tuple[dict[str, Any], bytes]:
    """The same tensors, their data behind the JSON; missing numbers become NaN."""
    parts, stated = [], []
    for given_tensor in inputs:
        data = [math.nan if value is None else value for value in given_tensor["data"]]
        parts.append(to_binary(data, given_tensor["datatype"]))
        size = {"binary_data_size": len(parts[-1])}
        rest = {key: value for key, value in given_tensor.items() if key != "data"}
        stated.append(rest | {"parameters": size})
    return {"inputs": stated}, b"".join(parts)


@UNHURRIED
@given(changes=st.fixed_dictionaries({}, optional=dict.fromkeys(EXAMPLE, VALUES)))
def test_a_json_tensor_is_refused_exactly_where_the_batch_is(changes: dict[str, Any]) -> None:
    rows = [EXAMPLE, EXAMPLE | changes]
    body = json.dumps({"instances": rows}).encode()
    try:
        expected = CODEC.decode_batch(body)
    except Problem as problem:
        assert problem.status == 422  # noqa: PT017
        # A lone surrogate is malformed in a tensor, and a refused text in a row.
        assert refusal({"inputs": tensors(rows)}).status in (400, 422)
        return
    assert decode({"inputs": tensors(rows)}) == expected


ROW = st.fixed_dictionaries(
    {
        "age": st.integers(0, 150),
        "income": st.floats(-1e38, 1e38),
        "debt": st.none() | st.floats(0, 1e38),
        "visits": st.integers(-(2**63), 2**63 - 1),
        "member": st.booleans(),
        "plan": st.sampled_from(["basic", "pro"]),
        "note": st.text(max_size=5, alphabet=st.characters(exclude_categories=["Cs"])),
    }
)


@UNHURRIED
@given(rows=st.lists(ROW, min_size=1, max_size=3), column=st.booleans())
def test_json_and_binary_give_the_rows_of_the_batch(
    rows: list[dict[str, Any]], column: bool
) -> None:
    expected = CODEC.decode_batch(json.dumps({"instances": rows}).encode())
    whole = tensors([row | {"region code": None} for row in rows])
    inputs = [given for given in whole if given["name"] != "region code"]
    for given_tensor in inputs:
        given_tensor["shape"] = [len(rows), 1] if column else [len(rows)]
    assert decode({"inputs": inputs}) == expected
    assert decode(*as_binary(inputs)) == expected
    nested = [
        i | {"shape": [len(rows), 1], "data": [[value] for value in i["data"]]} for i in inputs
    ]
    assert decode({"inputs": nested[::-1]}) == expected


@pytest.mark.parametrize("datatype", [*NUMPY, "BYTES"])
def test_each_datatype_reads_back_from_json_and_binary(datatype: str) -> None:
    values: list[Any] = [0, 1, 100]
    if datatype == "BYTES":
        values = ["", "é\n\x00", "x" * 300]
    elif datatype == "BOOL":
        values = [True, False, True]
    elif datatype.startswith("FP"):
        values = [0.1, -2.5, 65504.0]
    else:
        limits = np.iinfo(NUMPY[datatype])
        values = [int(limits.min), 0, int(limits.max)]
    binary = to_binary(values, datatype)
    exact = values if datatype in ("BYTES", "BOOL") else np.array(values, NUMPY[datatype]).tolist()
    assert from_binary(binary, datatype, [3]) == exact
    read = from_json(json.dumps(values).encode(), datatype, [3])
    assert read == exact
    assert [type(value) for value in read] == [type(value) for value in exact]


def test_binary_data_has_the_layout_of_the_extension() -> None:
    assert to_binary(["a", "é"], "BYTES") == b"\x01\0\0\0a\x02\0\0\0\xc3\xa9"
    assert to_binary([True, False], "BOOL") == b"\x01\x00"
    assert to_binary([1, -1], "INT32") == b"\x01\0\0\0\xff\xff\xff\xff"
    assert to_binary([0.5], "FP64") == struct.pack("<d", 0.5)


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("INT8", "[128]"),
        ("UINT8", "[-1]"),
        ("UINT64", "[18446744073709551616]"),
        ("UINT64", "[" + "9" * 400 + "]"),
        ("INT64", "[1.0]"),
        ("INT64", "[true]"),
        ("FP16", "[65520]"),
        ("FP32", "[1e39]"),
        ("FP64", "[1e999]"),
        ("FP64", '["1"]'),
        ("BOOL", "[1]"),
        ("BYTES", "[1]"),
        ("FP64", "[[1]]"),
        ("FP64", "1"),
        ("FP64", '{"a": 1}'),
    ],
)
def test_data_that_its_datatype_does_not_hold_is_refused_by_name(datatype: str, data: str) -> None:
    stated = {"name": "income", "shape": [1], "datatype": datatype}
    header = json.dumps({"inputs": [stated]})[:-3] + f', "data": {data}}}]}}'
    request, rest = read_request(header.encode(), None)
    with pytest.raises(Problem) as caught:
        rows_of(one()).decode(request.inputs, rest)
    assert caught.value.status == 422
    assert caught.value.errors[0].field == "income"


def one(dtype: Any = "float64", **more: Any) -> Contract:
    """A contract of one input."""
    example: dict[str, Any] = {"income": "x" if dtype == "string" else 1}
    if dtype == "bool":
        example = {"income": True}
    return Contract(
        model="m",
        version=1,
        onnx_sha256="0" * 64,
        inputs=(Input("income", dtype, **more),),
        graph_inputs=(GraphInput("x", dtype, ("income",)),),
        outputs=Outputs("regression", "y"),
        example=example,
    )


def rows_of(contract: Contract) -> TensorRows:
    return TensorRows(contract, Codec(contract, 3).fields, 3)


SUITS = {
    "float64": {"FP16", "FP32", "FP64", *(name for name in NUMPY if "INT" in name)},
    "int32": {name for name in NUMPY if "INT" in name},
    "bool": {"BOOL"},
    "string": {"BYTES"},
}


@pytest.mark.parametrize("dtype", SUITS)
@pytest.mark.parametrize("datatype", [*NUMPY, "BYTES"])
def test_a_field_takes_the_datatypes_that_hold_its_values(dtype: str, datatype: str) -> None:
    value: Any = {"BOOL": True, "BYTES": "x"}.get(datatype, 1)
    inputs = [{"name": "income", "shape": [1], "datatype": datatype, "data": [value]}]
    if datatype in SUITS[dtype]:
        rows = decode({"inputs": inputs}, rows=rows_of(one(dtype)))
        assert rows == [(float(value) if dtype == "float64" else value,)]
        assert type(rows[0][0]).__name__ == {"float64": "float", "int32": "int"}.get(
            dtype, type(value).__name__
        )
        return
    problem = refusal({"inputs": inputs}, rows=rows_of(one(dtype)))
    assert problem.errors[0].field == "income"
    assert f"as {DATATYPES[dtype]}, got a tensor of {datatype}" in problem.detail


def test_a_text_with_a_lone_surrogate_is_malformed() -> None:
    problem = refusal({"inputs": tensors([EXAMPLE], note={"data": ["\ud800"]})})
    assert (problem.status, "surrogate" in problem.detail) == (400, True)


def test_an_integer_that_float64_cannot_hold_is_refused_rather_than_rounded() -> None:
    for value in (2**53 + 1, -(2**63) + 1):
        inputs = tensors([EXAMPLE], income={"datatype": "INT64", "data": [value]})
        assert f"holds exactly, got {value}" in refusal({"inputs": inputs}).detail
    inputs = tensors([EXAMPLE], income={"datatype": "INT64", "data": [2**60]})
    assert decode({"inputs": inputs})[0][1] == 2.0**60


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"age": {"data": [151]}}, "age: expected an integer from 0 to 150, got 151"),
        ({"plan": {"data": ["free"]}}, 'plan: expected one of "basic", "pro", got the text "free"'),
        ({"note": {"data": ["toolong"]}}, "at most 5 characters, got 7 characters"),
        ({"income": {"data": [None]}}, "got null"),
        ({"region code": {"data": [3]}}, "expected one of 1, 2, or null, got 3"),
        ({"income": {"datatype": "FP128"}}, "has datatype FP128; known are BOOL"),
        ({"income": {"shape": []}}, "expected shape [n] or [n, 1], got []"),
        ({"income": {"shape": [1, 2]}}, "expected shape [n] or [n, 1], got [1, 2]"),
        ({"income": {"shape": [1, 1, 1]}}, "expected shape [n] or [n, 1], got [1, 1, 1]"),
        ({"income": {"shape": [-1]}}, "income: Expected `int` >= 0"),
        ({"income": {"shape": [1.5]}}, "income: Expected `int`, got `float`"),
        ({"income": {"shape": [2**63]}}, "income: Expected `int` <= "),
        ({"income": {"shape": [0], "data": []}}, "is empty; expected at least one row"),
        ({"income": {"shape": [2]}}, "the tensors differ in their rows"),
        ({"income": {"data": [1, 2]}}, "shape [1] takes 1 elements, its data has 2"),
        ({"income": {"shape": [1, 1], "data": [[1, 2]]}}, "a row of 2, its shape says 1"),
        ({"income": {"data": None}}, "either data or the parameter binary_data_size"),
        ({"income": {"parameters": {"binary_data_size": 0}}}, "either data or"),
        ({"income": {"parameters": {"binary_data_size": -8}}}, "must be a number of bytes"),
        ({"income": {"parameters": {"binary_data_size": True}}}, "must be a number of bytes"),
        ({"income": {"parameters": {"binary_data_size": 2**70}}}, "must be a number of bytes"),
        ({"income": {"name": "x"}}, "is not an input of this model, which takes age, income"),
        ({"income": {"name": "age"}}, "age: stands twice"),
        ({"income": {"name": 5}}, "Expected `str`, got `int`"),
        ({"income": {"data": [math.nan]}}, "income: JSON has no NaN"),
        ({"income": {"data": [[-math.inf]]}}, "income: JSON has no NaN"),
    ],
)
def test_a_tensor_that_is_wrong_is_named(change: dict[str, Any], words: str) -> None:
    problem = refusal({"inputs": tensors([EXAMPLE], **change)})
    assert problem.status == 422
    assert words in problem.detail


def test_a_refused_tensor_that_a_second_member_hides_is_still_a_problem() -> None:
    with pytest.raises(Problem) as caught:
        read_request(b'{"inputs": [{"name": 5}], "inputs": []}', None)
    assert caught.value.status == 422


def test_a_missing_tensor_is_named_unless_the_input_is_optional() -> None:
    inputs = [i for i in tensors([EXAMPLE]) if i["name"] not in ("debt", "region code")]
    assert decode({"inputs": inputs})[0][2] is None
    assert (
        "visits: is missing"
        in refusal({"inputs": [i for i in inputs if i["name"] != "visits"]}).detail
    )


def test_more_rows_than_the_limit_are_a_413_before_their_data_is_read() -> None:
    problem = refusal({"inputs": tensors([EXAMPLE], age={"shape": [10**18]})})
    assert problem.status == 413
    assert "age has 1000000000000000000 rows; this server takes at most 3" in problem.detail


def test_a_nan_is_a_missing_value_only_where_one_is_allowed() -> None:
    document, binary = as_binary(tensors([EXAMPLE]))
    assert decode(document, binary) == [tuple(EXAMPLE.values())]
    document, binary = as_binary(tensors([EXAMPLE | {"income": math.nan}]))
    problem = refusal(document, binary)
    assert problem.errors[0].field == "income"
    assert "got NaN" in problem.detail


@pytest.mark.parametrize(
    ("datatype", "binary", "words"),
    [
        ("FP64", b"\0" * 7, "takes 8 bytes, got 7"),
        ("FP64", b"\0" * 16, "takes 8 bytes, got 16"),
        ("BOOL", b"\x02", "a BOOL is a byte of 0 or 1"),
        ("BYTES", b"", "takes 1 elements, its data has 0"),
        ("BYTES", b"\x01\0\0", "element 0 of BYTES ends beyond"),
        ("BYTES", b"\xff\xff\xff\xffab", "element 0 of BYTES ends beyond"),
        ("BYTES", b"\0\0\0\0" * 2, "takes 1 elements, its data has 2"),
        ("BYTES", b"\x01\0\0\0\xff", "element 0 is not UTF-8"),
    ],
)
def test_binary_data_that_does_not_fit_its_tensor_is_refused(
    datatype: str, binary: bytes, words: str
) -> None:
    dtype = {"BOOL": "bool", "BYTES": "string"}.get(datatype, "float64")
    stated = {"name": "income", "shape": [1], "datatype": datatype}
    size = {"parameters": {"binary_data_size": len(binary)}}
    problem = refusal({"inputs": [stated | size]}, binary, rows_of(one(dtype)))
    assert (problem.status, problem.errors[0].field) == (422, "income")
    assert words in problem.detail


def test_binary_sizes_must_add_up_to_what_is_there() -> None:
    stated = {"name": "income", "shape": [1], "datatype": "FP64"}
    document = {"inputs": [stated | {"parameters": {"binary_data_size": 8}}]}
    for length in (0, 7, 9):
        problem = refusal(document, b"\0" * length, rows_of(one()))
        assert f"leaves {length} bytes behind the JSON object" in problem.detail
    assert "add up to 0" in refusal({"inputs": [stated | {"data": [1]}]}, b"x").detail


@pytest.mark.parametrize("length", [b"", b"-1", b"1e2", b"9" * 5000, b"100000"])
def test_a_header_length_beyond_the_body_is_refused(length: bytes) -> None:
    with pytest.raises(Problem, match="Inference-Header-Content-Length") as caught:
        read_request(b'{"inputs": []}', length)
    assert caught.value.status == 422


@UNHURRIED
@given(body=st.binary(max_size=60), length=st.none() | st.integers(0, 70))
def test_any_bytes_are_a_problem(body: bytes, length: int | None) -> None:
    with pytest.raises(Problem):
        read_request(body, None if length is None else str(length).encode())


@UNHURRIED
@given(
    change=st.fixed_dictionaries(
        {},
        optional={
            "name": VALUES | st.sampled_from(list(EXAMPLE)),
            "shape": VALUES | st.lists(VALUES, max_size=3),
            "datatype": VALUES | st.sampled_from([*NUMPY, "BYTES"]),
            "data": VALUES | st.lists(VALUES, max_size=2),
            "parameters": VALUES | st.fixed_dictionaries({"binary_data_size": VALUES}),
        },
    ),
    binary=st.binary(max_size=20),
)
def test_any_tensor_is_rows_or_a_problem(change: dict[str, Any], binary: bytes) -> None:
    try:
        decode({"inputs": tensors([EXAMPLE], income=change)}, binary)
    except Problem as problem:
        assert problem.status in (400, 413, 422)  # noqa: PT017
        problem.encode("id", "/v2")


FLOATS = tuple(Input(name, "float32") for name in ("a", "b", "input"))


def floats() -> TensorRows:
    contract = Contract(
        model="m",
        version=1,
        onnx_sha256="0" * 64,
        inputs=FLOATS,
        graph_inputs=(GraphInput("x", "float32", ("a", "b", "input")),),
        outputs=Outputs("regression", "y"),
        example={"a": 1, "b": 2, "input": 3},
    )
    return rows_of(contract)


@pytest.mark.parametrize("name", ["x", "inputs"])
def test_a_matrix_stands_for_all_inputs_in_the_contracts_order(name: str) -> None:
    stated = {"name": name, "shape": [2, 3], "datatype": "FP32"}
    expected: list[Row] = [(1, 2, 3), (4, 5, 6)]
    for data in ([1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]):
        assert decode({"inputs": [stated | {"data": data}]}, rows=floats()) == expected
    binary = to_binary(range(1, 7), "FP32")
    size = {"parameters": {"binary_data_size": len(binary)}}
    assert decode({"inputs": [stated | size]}, binary, floats()) == expected
    for shape in ([3], [2, 2], [2, 3, 1], [3, 2]):
        wrong = stated | {"shape": shape, "data": [0] * 6}
        assert "expected shape [n, 3]" in refusal({"inputs": [wrong]}, rows=floats()).detail


def test_an_inputs_own_name_comes_before_the_matrix() -> None:
    assert floats().matrix_names == ("x", "inputs")


def test_inputs_of_several_kinds_have_no_matrix() -> None:
    assert ROWS.matrix_datatype is None
    stated = {"name": "input", "shape": [1, 8], "datatype": "FP64", "data": [0] * 8}
    assert "input: is not an input of this model" in refusal({"inputs": [stated]}).detail


def test_the_datatype_of_an_output_is_that_of_the_graphs_own_answer() -> None:
    found = [datatype_of(value) for value in ("a", True, 1, 1.0)]
    assert found == ["BYTES", "BOOL", "INT64", "FP64"]
