"""What a cell of a CSV means."""

import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bentos.model_server.contract import Dtype
from orchestration.batch.parsing import parse
from tests.bentos.model_server.models import mixed, spam
from tests.orchestration.batch.plans import score

ODD = (
    *("", " ", "1", "-1", "+1", " 7 ", "1.0", "3.5", ".5", "5.", "1e3", "1e-3", "1e400", "0x1F"),
    *("nan", "NaN", "-nan", "nan(1)", "inf", "-Infinity", "NULL", "true", "FALSE", "1_0", "٣"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775808", "007", "1" * 5000),
)
CELLS = st.sampled_from(ODD) | st.text("0123456789+-.eExX_ naif", max_size=6)


def parsed(cells: list[str | None], dtype: Dtype) -> list[Any]:
    values, unreadable = parse(pa.array(cells, pa.string()), dtype)
    wrong = [False] * len(cells) if unreadable is None else unreadable.tolist()
    return [
        "unreadable" if bad else None if value is None or value != value else value
        for value, bad in zip(values.to_pylist(), wrong, strict=True)
    ]


@settings(deadline=None)
@given(st.lists(st.none() | CELLS, max_size=6), st.sampled_from(["float64", "int64", "bool"]))
def test_a_cell_means_the_same_beside_any_others(cells: list[str | None], dtype: Any) -> None:
    assert parsed(cells, dtype) == [value for cell in cells for value in parsed([cell], dtype)]


@pytest.mark.parametrize(
    ("cell", "number", "integer"),
    [
        *[("", None, None), ("NaN", None, None), (" null ", None, None)],
        *[("7", 7.0, 7), ("+7", 7.0, 7), (" 7 ", 7.0, 7), ("7.0", 7.0, 7), ("7e2", 700.0, 700)],
        *[("7.5", 7.5, "unreadable"), ("1e400", math.inf, "unreadable")],
        *[("inf", "unreadable", "unreadable"), ("0x1F", "unreadable", "unreadable")],
        ("9007199254740993", 9007199254740992.0, 9007199254740993),
        ("9223372036854775807", 2.0**63, 2**63 - 1),
        ("9223372036854775808", 2.0**63, "unreadable"),
    ],
)
def test_numbers(cell: str, number: Any, integer: Any) -> None:
    assert parsed([cell], "float64") == [number]
    assert parsed([cell], "int64") == [integer]


@settings(deadline=None)
@given(st.lists(st.floats(allow_infinity=False), max_size=5), st.booleans())
def test_numbers_are_read_back_as_they_were_written(values: list[float], odd: bool) -> None:
    cells = [repr(value) for value in values] + ["x"] * odd
    expected = [None if value != value else value for value in values]
    assert parsed([*cells], "float64") == expected + ["unreadable"] * odd


def test_a_bad_cell_is_one_reject_in_the_words_of_the_server() -> None:
    table = {
        "age": ["41", "forty", "3000000000", "1.5"],
        "income": ["1000.5", "", "-inf", "1e5"],
        "visits": ["3.0", "1", "9223372036854775808", "1"],
        "member": ["true", "yes", "0", "1"],
        "note": ["", "null", "1", "NaN"],
    }
    scored = score(mixed(), table, format="csv")
    assert scored.output["prediction"].to_pylist() == [1045.5]
    assert scored.rejects is not None
    assert scored.rejects.select(list(table)).to_pylist()[1]["age"] == "3000000000"
    income = "expected a number from -3.4028235e+38 to 3.4028235e+38"
    assert scored.rejects["reason"].to_pylist() == [
        'age: expected an integer within int32, got the text "forty"; '
        f'income: {income}, got null; member: expected true or false, got the text "yes"',
        "age: expected an integer within int32, got 3000000000; "
        f'income: {income}, got the text "-inf"; '
        "visits: expected an integer within int64, got 9223372036854775808",
        "age: expected an integer within int32, got 1.5",
    ]


def test_a_text_is_what_stands_there() -> None:
    texts = ["win cash now", "", "NULL", None]
    as_csv = score(spam(), {"email_content": texts}, format="csv")
    as_table = score(spam(), {"email_content": texts})
    assert as_csv.output.drop_columns("onnx_sha256") == as_table.output.drop_columns("onnx_sha256")
    assert as_csv.rejects is not None
    assert as_csv.rejects["source_row"].to_pylist() == [103]
