import json
import math
from typing import Any

import pytest

from bentos.model_server.codec import LARGE_BODY, Codec
from bentos.model_server.contract import Contract, ContractError, GraphInput, Input, Outputs
from bentos.model_server.fields import FLOAT32_MAX
from bentos.model_server.problems import Problem

INPUTS = (
    Input("age", "int32", minimum=0, maximum=150),
    Input("income", "float64"),
    Input("debt", "float64", required=False, minimum=0),
    Input("visits", "int64"),
    Input("member", "bool"),
    Input("plan", "string", categories=("basic", "pro")),
    Input("region code", "int64", required=False, categories=(1, 2)),
    Input("note", "string", max_length=5),
)
EXAMPLE: dict[str, Any] = {
    "age": 41,
    "income": 1000.5,
    "debt": None,
    "visits": 3,
    "member": True,
    "plan": "pro",
    "region code": 2,
    "note": "é",
}


def contract(inputs: tuple[Input, ...] = INPUTS, example: Any = None, **other: Any) -> Contract:
    floats = tuple(i.name for i in inputs if i.dtype in ("int32", "float64") or not i.required)
    return Contract(
        model="m",
        version=1,
        onnx_sha256="0" * 64,
        inputs=inputs,
        graph_inputs=other.get("graph_inputs", (GraphInput("x", "float32", floats),)),
        outputs=Outputs("regression", "y"),
        example=EXAMPLE if example is None else example,
    )


CODEC = Codec(contract(), max_rows=3)


def refusal(body: str | bytes, batch: bool = False) -> Problem:
    data = body.encode() if isinstance(body, str) else body
    with pytest.raises(Problem) as caught:
        CODEC.decode_batch(data) if batch else CODEC.decode_one(data)
    return caught.value


def features(**changes: Any) -> str:
    return json.dumps({"features": EXAMPLE | changes})


def test_a_row_comes_out_in_the_order_of_the_contract() -> None:
    shuffled = dict(reversed(EXAMPLE.items()))
    row = CODEC.decode_one(json.dumps({"features": shuffled}).encode())
    assert row == tuple(EXAMPLE.values())


def test_an_integer_is_a_float_for_a_float_field() -> None:
    assert CODEC.decode_one(features(income=7).encode())[1] == 7.0


def test_the_inputs_may_stand_without_the_wrapper() -> None:
    assert CODEC.decode_one(json.dumps(EXAMPLE).encode()) == tuple(EXAMPLE.values())


def test_an_input_called_features_makes_the_wrapper_necessary() -> None:
    codec = Codec(contract((Input("features", "float64"),), {"features": 1.0}), 1)
    assert codec.decode_one(b'{"features": {"features": 2}}') == (2.0,)
    with pytest.raises(Problem, match="expected an object, got 2"):
        codec.decode_one(b'{"features": 2}')


def test_an_optional_field_may_be_missing_or_null() -> None:
    body = json.loads(features())
    del body["features"]["debt"]
    assert CODEC.decode_one(json.dumps(body).encode())[2] is None
    assert CODEC.decode_one(features(debt=None).encode())[2] is None


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("age", "41", 'an integer from 0 to 150, got the text "41"'),
        ("age", 41.5, "an integer from 0 to 150, got 41.5"),
        ("age", True, "an integer from 0 to 150, got true"),
        ("age", -1, "an integer from 0 to 150, got -1"),
        ("age", 151, "an integer from 0 to 150, got 151"),
        ("age", None, "an integer from 0 to 150, got null"),
        ("age", [41], "an integer from 0 to 150, got an array"),
        ("income", "5.1", 'a number within float64, got the text "5.1"'),
        ("income", 1e39, "a number from -3.4028235e+38 to 3.4028235e+38, got 1e+39"),
        ("income", 10**400, "got a number beyond float64"),
        ("income", math.nan, "got NaN"),
        ("income", math.inf, "beyond float64"),
        ("income", False, "got false"),
        ("income", {}, "got an object"),
        ("debt", -0.5, "from 0 to 3.4028235e+38, or null, got -0.5"),
        ("visits", 2**63, "an integer within int64, got 9223372036854775808"),
        ("visits", 1.5, "an integer within int64, got 1.5"),
        ("member", 1, "true or false, got 1"),
        ("member", "true", 'true or false, got the text "true"'),
        ("plan", "gold", 'one of "basic", "pro", got the text "gold"'),
        ("plan", 3, 'one of "basic", "pro", got 3'),
        ("region code", 3, "one of 1, 2, or null, got 3"),
        ("region code", True, "one of 1, 2, or null, got true"),
        ("note", "abcdef", "a text of at most 5 characters, got 6 characters"),
        ("note", 5, "a text of at most 5 characters, got 5"),
    ],
)
def test_a_refused_value_is_named_with_what_was_expected(
    field: str, value: Any, expected: str
) -> None:
    problem = refusal(features(**{field: value}))
    assert problem.status == 422
    assert [error.field for error in problem.errors] == [field]
    if "within float64" not in expected:
        assert expected in problem.errors[0].message
    row = refusal(json.dumps({"instances": [EXAMPLE, EXAMPLE | {field: value}]}), batch=True)
    assert (row.errors[0].row, row.errors[0].field) == (1, field)


def test_all_that_is_wrong_is_listed_at_once() -> None:
    values = EXAMPLE | {"age": "x", "Age": 3}
    del values["note"]
    errors = {error.field: error.message for error in refusal(json.dumps(values)).errors}
    assert errors["age"].startswith("expected an integer")
    assert errors["note"].startswith("is missing")
    assert "which takes age, income" in errors["Age"]


def test_a_positional_row_needs_every_value() -> None:
    values = list(EXAMPLE.values())
    body = json.dumps({"instances": [values, values]})
    assert CODEC.decode_batch(body.encode()) == [tuple(values)] * 2
    problem = refusal(json.dumps({"instances": [values, values[:-1]]}), batch=True)
    assert problem.errors[0].row == 1
    assert "expected 8 values in the contract's order, got 7" in problem.errors[0].message


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("", 400, "no body"),
        ("{", 400, "not JSON"),
        ("nan", 400, "not JSON"),
        (b'{"features": "\xff"}', 400, "not UTF-8"),
        ("\ufeff{}".encode("utf-16"), 400, "not UTF-8"),
        ("[" * 20_000, 400, "too deeply"),
        ('{"a":' * 20_000, 400, "too deeply"),
        ("[]", 422, "expected an object with features, got an array"),
        ("null", 422, "got null"),
        ("{}", 422, "features: is missing"),
        ('{"features": 3}', 422, "features: expected an object, got 3"),
        ('{"features": {}, "extra": 1}', 422, "extra: is unknown"),
        ('{"instances": []}', 422, "features: is missing"),
    ],
)
def test_a_body_of_another_shape_is_refused(body: str | bytes, status: int, words: str) -> None:
    problem = refusal(body)
    assert problem.status == status
    assert words in problem.detail


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("{}", 422, "instances: is missing"),
        ('{"instances": []}', 422, "is empty"),
        ('{"instances": {}}', 422, "expected an array, got an object"),
        ('{"instances": [1]}', 422, "row 0, instances: expected an object or an array"),
        (json.dumps({"instances": [EXAMPLE, list(EXAMPLE.values())]}), 422, "mixes objects and"),
        (json.dumps({"instances": [EXAMPLE] * 4}), 413, "has 4 rows; this server takes at most 3"),
        (json.dumps({"instances": [EXAMPLE], "x": 1}), 422, "x: is unknown"),
    ],
)
def test_a_batch_of_another_shape_is_refused(body: str, status: int, words: str) -> None:
    problem = refusal(body, batch=True)
    assert problem.status == status
    assert words in problem.detail


@pytest.mark.parametrize("place", ["row", "document", "escaped"])
def test_a_key_that_stands_twice_is_refused(place: str) -> None:
    text = json.dumps(EXAMPLE)
    body = {
        "row": '{"features": ' + text.replace("{", '{"age": 9, ', 1) + "}",
        "document": '{"features": ' + text + ', "features": ' + text + "}",
        "escaped": '{"features": ' + text.replace("{", '{"\\u0061ge": 9, ', 1) + "}",
    }[place]
    assert "stands twice" in refusal(body).detail


def test_quotes_in_a_text_are_no_second_key() -> None:
    assert CODEC.decode_one(features(note='a"b"').encode())[-1] == 'a"b"'
    assert CODEC.decode_one(features(note="Q").replace("Q", r"\u0022x").encode())[-1] == '"x'


def test_no_more_than_twenty_errors_are_listed() -> None:
    codec = Codec(contract(), max_rows=1000)
    with pytest.raises(Problem) as caught:
        codec.decode_batch(json.dumps({"instances": [EXAMPLE | {"age": -1}] * 500}).encode())
    assert len(caught.value.errors) == 20


def test_a_contract_that_refuses_its_own_example_is_refused() -> None:
    with pytest.raises(ContractError, match=r"refuses its own example: age: .* got 200"):
        Codec(contract(example=EXAMPLE | {"age": 200}), 1)


def test_a_null_that_has_no_place_in_the_graph_is_refused_with_the_contract() -> None:
    inputs = (Input("n", "int64", required=False),)
    graph = (GraphInput("x", "int64", ("n",)),)
    with pytest.raises(ContractError, match="graph input x has no NaN"):
        Codec(contract(inputs, {"n": 1}, graph_inputs=graph), 1)


def test_the_largest_float32_is_accepted_and_the_next_float64_is_not() -> None:
    assert CODEC.decode_one(features(income=FLOAT32_MAX).encode())[1] == FLOAT32_MAX
    assert refusal(features(income=math.nextafter(FLOAT32_MAX, math.inf))).status == 422


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        (b'{"instances": [{"age": 1, "name": "%b"}]}', "$.instances[0]", "unknown field `name`"),
        (b'{"instances": [[1, "%b"], 7]}', "$.instances[0][1]", "Expected `float`"),
        (b'{"instances": "%b"}', "$.instances", "got `str`"),
    ],
)
def test_a_large_refused_body_is_explained_in_brief(body: bytes, field: str, words: str) -> None:
    large = body.replace(b"%b", b"x" * LARGE_BODY)
    with pytest.raises(Problem) as caught:
        CODEC.decode_batch(large)
    assert caught.value.status == 422
    (error,) = caught.value.errors
    assert error.field.startswith(field)
    assert words in error.message
    with pytest.raises(Problem) as caught:
        CODEC.decode_batch(large[:-1])
    assert caught.value.status in (400, 422)
