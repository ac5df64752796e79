import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.load_test.errors import LoadTestError
from orchestration.load_test.rows import bodies, http_request, read_rows

ROWS = [{"text": "grün"}, {"text": "b", "n": 1.5}]


def test_rows_are_read_from_an_array_and_from_lines(tmp_path: Path) -> None:
    array, lines = tmp_path / "rows.json", tmp_path / "rows.jsonl"
    array.write_text(json.dumps(ROWS, indent=2))
    lines.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    assert read_rows(array) == read_rows(lines) == ROWS


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has no rows"),
        (b"[]", "has no rows"),
        (b"[{}, 3]", "row 2: expected an object"),
        (b'{"a": 1}\n{"a": \n', "line 2: "),
        (b"[{]", "is not JSON"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_bad_file_is_said_to_be_so_with_the_place(
    content: bytes, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(content)
    with pytest.raises(LoadTestError, match=words) as caught:
        read_rows(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(LoadTestError, match="No such file"):
        read_rows(tmp_path / "rows.json")


@given(st.integers(1, 40), st.integers(2, 50))
def test_batches_are_full_and_every_row_is_in_one(count: int, size: int) -> None:
    path, made = bodies([{"n": number} for number in range(count)], size)
    assert path == "/predict/batch"
    batches = [[row["n"] for row in json.loads(body)["instances"]] for body in made]
    assert all(len(batch) == size for batch in batches)
    assert {number for batch in batches for number in batch} == set(range(count))


def test_a_request_of_one_row_is_a_predict() -> None:
    path, (first, _) = bodies(ROWS, 1)
    assert path == "/predict"
    request = http_request("/m" + path, {"host": "x:1"}, first)
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /m/predict HTTP/1.1",
        b"host: x:1",
        b"content-length: %d" % len(body),
    ]
    assert json.loads(body) == {"features": {"text": "grün"}}
