"""Parquet inputs: found, planned and read."""

import io
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.batch.errors import InputError
from orchestration.batch.formats import parquet
from orchestration.batch.sources import find_files, make_parts, read_part
from orchestration.batch.storage import open_input
from tests.orchestration.batch.sources_support import plan_of, rows_of


def table(rows: int, start: int = 0) -> pa.Table:
    numbers = range(start, start + rows)
    return pa.table({"id": list(numbers), "name": [f"n{n}" for n in numbers]})


def write(path: Path, rows: int, group: int = 10, start: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table(rows, start), path, row_group_size=group)
    return path


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=3),
    group=st.integers(1, 50),
    part_rows=st.integers(1, 60),
    batch_rows=st.integers(1, 60),
)
def test_every_row_is_read_once_and_in_order(
    sizes: list[int],
    group: int,
    part_rows: int,
    batch_rows: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("input")
    for number, size in enumerate(sizes):
        write(folder / f"{number}.parquet", size, group, 1000 * number)
    plan = plan_of(str(folder), part_rows, batch_rows)
    assert [file.rows for file in plan.files] == sizes
    assert [(row.source, row.values["id"]) for row in rows_of(plan)] == [
        ((str(folder / f"{number}.parquet"), n), 1000 * number + n)
        for number, size in enumerate(sizes)
        for n in range(size)
    ]


def test_a_part_is_whole_row_groups_up_to_the_rows_that_are_asked_for(tmp_path: Path) -> None:
    files = find_files(str(write(tmp_path / "a.parquet", 75, group=20)))[1]
    parts = make_parts("parquet", files, 45)[1]
    assert [(p.start, p.stop, p.first_row, p.rows) for p in parts] == [
        (0, 2, 0, 40),
        (2, 4, 40, 35),
    ]
    assert [p.rows for p in make_parts("parquet", files, 5)[1]] == [20, 20, 20, 15]


def test_reordered_columns_are_read_by_name(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 2)
    pq.write_table(table(2, 5).select(["name", "id"]), tmp_path / "b.parquet")
    plan = plan_of(str(tmp_path))
    assert [row.values["id"] for row in rows_of(plan)] == [0, 1, 5, 6]
    names = [next(read_part(plan, part)).schema.names for part in plan.parts]
    assert names == [["id", "name"], ["id", "name"]]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"id": ["1"], "name": ["x"]}, "'id' is string, there int64"),
        ({"id": [1]}, "'name' is missing"),
        ({"id": [1], "name": ["x"], "more": [1]}, "'more' is too much"),
    ],
)
def test_a_file_whose_columns_are_others_is_named(
    tmp_path: Path, columns: dict[str, list[object]], reason: str
) -> None:
    write(tmp_path / "a.parquet", 2)
    pq.write_table(pa.table(columns), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=rf"b\.parquet: .*a\.parquet.*{reason}"):
        plan_of(str(tmp_path))


def test_a_name_twice_in_one_file_is_refused(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(twice, tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet: more than one column is called 'a'"):
        plan_of(str(tmp_path))


@pytest.mark.parametrize("harm", ["truncated", "empty", "text"])
def test_a_broken_file_among_many_is_named_before_work_starts(tmp_path: Path, harm: str) -> None:
    for number in range(4):
        write(tmp_path / f"{number}.parquet", 30)
    broken = tmp_path / "2.parquet"
    data = {"truncated": broken.read_bytes()[:-20], "empty": b"", "text": b"a,b\n1,2\n"}[harm]
    broken.write_bytes(data)
    with pytest.raises(InputError, match=r"2\.parquet: no readable Parquet file \(.+\)$"):
        plan_of(str(tmp_path))


def test_damage_within_a_file_is_named_when_its_part_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(table(1000), path, write_page_checksum=True)
    data = bytearray(path.read_bytes())
    data[200] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.parquet: .*CRC checksum"):
        rows_of(plan_of(str(path)))


def test_a_file_that_was_changed_since_the_plan_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", 20)
    plan = plan_of(str(path))
    write(path, 20, start=100)
    with pytest.raises(InputError, match=r"a\.parquet: changed since"):
        rows_of(plan)


def test_a_file_that_is_changed_while_it_is_read_does_not_pass(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", 20)
    plan = plan_of(str(path), batch_rows=5)
    batches = read_part(plan, plan.parts[0])
    next(batches)
    write(path, 20, start=100)
    with pytest.raises(InputError, match=r"a\.parquet: "):
        list(batches)


def test_files_without_rows_have_no_parts_and_their_types_say_nothing(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 0)
    plan = plan_of(str(tmp_path))
    assert (plan.files[0].rows, plan.parts) == (0, ())
    write(tmp_path / "b.parquet", 3)
    plan = plan_of(str(tmp_path))
    assert [(column.name, column.type) for column in plan.schema] == [
        ("id", "int64"),
        ("name", "string"),
    ]
    assert [row.values["id"] for row in rows_of(plan)] == [0, 1, 2]


@pytest.mark.parametrize("empty", [0, 1, 2])
def test_a_column_without_a_value_in_one_of_the_files_is_missing_there(
    tmp_path: Path, empty: int
) -> None:
    for number in range(3):
        there = table(2, 2 * number)
        nulls = pa.nulls(2)  # what pandas writes of a column of None
        there = there.set_column(1, "name", nulls) if number == empty else there
        pq.write_table(there, tmp_path / f"{number}.parquet")
    plan = plan_of(str(tmp_path))
    assert plan.schema[1].type == "string"
    expected = [None if n // 2 == empty else f"n{n}" for n in range(6)]
    assert [row.values["name"] for row in rows_of(plan)] == expected
    assert {next(read_part(plan, part)).schema.types[1] for part in plan.parts} == {pa.string()}


def test_a_large_row_group_in_object_storage_is_read_piece_by_piece(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = fsspec.filesystem("memory")
    with memory.open("/bucket/a.parquet", "wb") as file:
        pq.write_table(pa.table({"id": range(500_000)}), file, use_dictionary=False)
    sources: list[Counting] = []

    def opened(url: str, **options: object) -> Counting:
        sources.append(Counting(open_input(url, **options)))
        return sources[-1]

    monkeypatch.setattr(parquet, "open_input", opened)
    monkeypatch.setattr(parquet, "_REMOTE_AHEAD", 100_000)
    try:
        batches = parquet.batches("memory://bucket/a.parquet", 0, 1, 1000)
        assert next(batches)["id"][0].as_py() == 0
        assert sources[-1].count < memory.size("/bucket/a.parquet") / 2
        assert 1000 + sum(len(batch) for batch in batches) == 500_000
    finally:
        memory.rm("/bucket", recursive=True)


class Counting(io.BufferedReader):
    """Of a file, how many bytes were read."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def test_a_text_that_is_not_utf_8_is_no_text(tmp_path: Path) -> None:
    bad = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe"]).buffers())
    pq.write_table(pa.table({"a": bad}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet: .*UTF8"):
        rows_of(plan_of(str(tmp_path)))


def test_categories_that_differ_by_row_group_are_read(tmp_path: Path) -> None:
    values = ["a", "b", "c", "a", "d"]
    pq.write_table(
        pa.table({"c": pa.array(values).dictionary_encode()}),
        tmp_path / "a.parquet",
        row_group_size=2,
    )
    plan = plan_of(str(tmp_path), part_rows=10, batch_rows=4)
    assert [row.values["c"] for row in rows_of(plan)] == values


def test_an_input_in_object_storage_is_read_the_same_way() -> None:
    memory = fsspec.filesystem("memory")
    for name in ("day=1/a.parquet", "day=2/b.parquet"):
        with memory.open(f"/bucket/{name}", "wb") as file:
            pq.write_table(table(30), file, row_group_size=10)
    try:
        plan = plan_of("memory://bucket", part_rows=20, batch_rows=7)
        assert [file.path for file in plan.files] == [
            "memory://bucket/day=1/a.parquet",
            "memory://bucket/day=2/b.parquet",
        ]
        assert [row.values["id"] for row in rows_of(plan)] == [*range(30), *range(30)]
        with memory.open("/bucket/day=2/b.parquet", "wb") as file:
            pq.write_table(table(30, 1), file, row_group_size=10)
        with pytest.raises(InputError, match=r"memory://bucket/day=2/b\.parquet: changed since"):
            rows_of(plan)
    finally:
        memory.rm("/bucket", recursive=True)
