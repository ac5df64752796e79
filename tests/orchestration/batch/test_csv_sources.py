"""CSV inputs: found, planned by a scan, and read."""

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.batch.errors import InputError
from orchestration.batch.formats import csv_rows
from tests.orchestration.batch.sources_support import plan_of, rows_of

texts = st.text(
    st.one_of(
        st.sampled_from('",\r\n ab\ufeff\u2028é漢'), st.characters(exclude_categories=["Cs"])
    ).filter(lambda c: c != "\0"),
    max_size=6,
)
columns = st.integers(1, 4)
cells = st.one_of(st.none(), texts)


def is_name(text: str) -> bool:
    """A file's first character is no byte order mark of its own."""
    return bool(text) and not text.startswith("\ufeff")


def written(rows: list[list[str | None]], end: str, final_end: bool, quote_all: bool) -> bytes:
    """By hand: Python's writer makes no difference between missing and empty."""

    def cell(value: str | None, alone: bool) -> str:
        if value is None:
            return "" if not alone else '""'
        quoted = quote_all or value == "" or any(c in value for c in '",\r\n')
        return '"' + value.replace('"', '""') + '"' if quoted else value

    lines = [",".join(cell(value, len(row) == 1) for value in row) for row in rows]
    return (end.join(lines) + (end if final_end else "")).encode()


@settings(deadline=None)
@given(
    data=st.data(),
    width=columns,
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    final_end=st.booleans(),
    quote_all=st.booleans(),
    bom=st.booleans(),
    packed=st.booleans(),
    chunk=st.integers(110, 300),
    part_rows=st.integers(1, 8),
    batch_rows=st.integers(1, 8),
)
def test_every_row_is_read_once_and_in_order(
    data: st.DataObject,
    width: int,
    end: str,
    final_end: bool,
    quote_all: bool,
    bom: bool,
    packed: bool,
    chunk: int,
    part_rows: int,
    batch_rows: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    names = data.draw(st.lists(texts.filter(is_name), min_size=width, max_size=width, unique=True))
    row = st.lists(cells, min_size=width, max_size=width)
    rows = data.draw(st.lists(row, max_size=20))
    content = written([list(names), *rows], end, final_end, quote_all)
    content = b"\xef\xbb\xbf" * bom + content
    path = tmp_path_factory.mktemp("input") / ("a.csv.gz" if packed else "a.csv")
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.MonkeyPatch.context() as patch:
        # No row has more than 110 bytes, and many lie across a border.
        patch.setattr(csv_rows, "CHUNK", chunk)
        plan = plan_of(str(path), part_rows, batch_rows)
        found = rows_of(plan)
    # Of a single column, a missing value cannot be told from an empty line.
    expected = [["" if v is None and width == 1 else v for v in row] for row in rows]
    assert [list(row.values.values()) for row in found] == expected
    assert [row.source[1] for row in found] == list(range(len(rows)))
    assert [column.name for column in plan.schema] == names


def plan_and_rows(path: Path, content: bytes) -> list[dict[str, object]]:
    path.write_bytes(content)
    return [row.values for row in rows_of(plan_of(str(path)))]


def test_an_empty_field_is_missing_and_an_empty_text_is_not(tmp_path: Path) -> None:
    assert plan_and_rows(tmp_path / "a.csv", b'a,b\n,""\nNA,null\n') == [
        {"a": None, "b": ""},
        {"a": "NA", "b": "null"},
    ]


def test_a_text_that_begins_with_a_byte_order_mark_keeps_it(tmp_path: Path) -> None:
    rows = plan_and_rows(tmp_path / "a.csv", "\ufeffa,b\n\ufeff1,2\n\ufeff,\n".encode())
    assert rows == [{"a": "\ufeff1", "b": "2"}, {"a": "\ufeff", "b": None}]


def test_empty_lines_are_no_rows(tmp_path: Path) -> None:
    content = b"\n\r\na,b\n\n1,2\r\n\r\n\r\r3,4\n\n\n"
    assert [row["a"] for row in plan_and_rows(tmp_path / "a.csv", content)] == ["1", "3"]


def test_a_part_is_a_range_of_bytes_that_begins_a_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'a,b\n1,"x\ny"\n2,"""\n"\n3,z\n')
    parts = plan_of(str(path), part_rows=2).parts
    assert [(p.start, p.stop, p.first_row, p.rows) for p in parts] == [
        (4, 20, 0, 2),
        (20, 24, 2, 1),
    ]


def test_a_header_without_rows_is_an_empty_file(tmp_path: Path) -> None:
    assert plan_and_rows(tmp_path / "a.csv", b"a,b") == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty, there is not even a header"),
        (b"\xef\xbb\xbf\n", "empty, there is not even a header"),
        (b"a,b\n1,2\n\n3\n", "line 4: 1 fields where the header has 2"),
        (b'a,b\n"1\n\r\n",2\n3,4,5\n', "line 5: 3 fields where the header has 2"),
        (b'a,b\n1,2\n3,"4\n5,6\n', "line 3: this row does not end; is a quote not closed?"),
        (b'a,b\n1,2\n5" pipe,1\n', "line 3: a quote within a field"),
        (b'a,b\n1,2\n"5" pipe,1\n', "line 3: a quote within a field"),
        (b"a,b\n1,2\nM\xfcller,1\n", "line 3: not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "line 1: not UTF-8"),
        (b"a,b,a\n1,2,3\n", "more than one column is called 'a'"),
        (b"a\n1\n" + b"x" * csv_rows.CHUNK + b"\n", "line 3: a row of more than 4,194,304 bytes"),
        (b"a\n1\n" + b"x" * 3 * csv_rows.CHUNK, "line 3: this row does not end"),
        (b"a," * 2**19, "line 1: a header of 1,048,576 bytes or more"),
    ],
)
def test_what_is_no_csv_is_named_with_its_line_before_work_starts(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        plan_of(str(path))
    assert str(refused.value).startswith(f"{path}{',' if said.startswith('line') else ':'} {said}")


def test_the_longest_row_that_is_planned_is_read(tmp_path: Path) -> None:
    rows = [f"{n}," + "x" * (csv_rows.CHUNK - 3 - len(str(n))) for n in range(3)]
    content = "a,b\n" + "1,2\n" * 5 + "\n".join(rows)
    found = plan_and_rows(tmp_path / "a.csv", content.encode())
    assert [f"{row['a']},{row['b']}" for row in found[5:]] == rows


@pytest.mark.parametrize("harm", ["cut", "text"])
def test_a_compressed_file_that_is_broken_is_named(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "a.csv.gz"
    whole = gzip.compress(b"a,b\n" + b"1,2\n" * 1000)
    path.write_bytes(whole[:-20] if harm == "cut" else b"a,b\n1,2\n")
    with pytest.raises(InputError, match=r"a\.csv\.gz: .+"):
        plan_of(str(path))


def test_what_pythons_writer_makes_is_read_back(tmp_path: Path) -> None:
    rows = [['say "hi"', "a,b"], ["line\nline\r\n", '"'], ["é", "漢"]]
    text = io.StringIO()
    csv.writer(text).writerows([["x", "y"], *rows])
    found = plan_and_rows(tmp_path / "a.csv", text.getvalue().encode())
    assert [list(row.values()) for row in found] == rows
