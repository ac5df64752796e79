"""Arrow IPC inputs: found, planned and read."""

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import feather, ipc

from orchestration.batch.errors import InputError
from tests.orchestration.batch.sources_support import plan_of, rows_of


def write(path: Path, sizes: list[int], compression: str | None = None) -> Path:
    """One record batch for each size, with rows numbered all through."""
    schema = pa.schema([("text", pa.string()), ("id", pa.int64())])
    options = ipc.IpcWriteOptions(compression=compression)
    first = 0
    with ipc.new_file(str(path), schema, options=options) as file:
        for size in sizes:
            numbers = range(first, first + size)
            file.write_batch(
                pa.record_batch([[f"n{n}" for n in numbers], list(numbers)], schema=schema)
            )
            first += size
    return path


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(0, 30), max_size=6),
    compression=st.sampled_from([None, "lz4", "zstd"]),
    part_rows=st.integers(1, 60),
    batch_rows=st.integers(1, 40),
)
def test_every_row_is_read_once_and_in_order(
    sizes: list[int],
    compression: str | None,
    part_rows: int,
    batch_rows: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = write(tmp_path_factory.mktemp("input") / "a.arrow", sizes, compression)
    rows = rows_of(plan_of(str(path), part_rows, batch_rows))
    assert [(row.source[1], row.values["id"]) for row in rows] == [
        (n, n) for n in range(sum(sizes))
    ]
    assert [row.values["text"] for row in rows] == [f"n{n}" for n in range(sum(sizes))]


def test_feather_is_an_arrow_file(tmp_path: Path) -> None:
    feather.write_feather(pa.table({"id": range(100)}), str(tmp_path / "a.feather"), chunksize=30)
    plan = plan_of(str(tmp_path), part_rows=60)
    assert [part.rows for part in plan.parts] == [60, 40]
    assert [row.values["id"] for row in rows_of(plan)] == list(range(100))


def test_the_stream_format_is_refused_with_the_fix(tmp_path: Path) -> None:
    table = pa.table({"id": [1]})
    with ipc.new_stream(str(tmp_path / "a.arrow"), table.schema) as stream:
        stream.write_table(table)
    with pytest.raises(InputError, match=r"a\.arrow: in Arrow's stream format.*new_file"):
        plan_of(str(tmp_path))


@pytest.mark.parametrize("harm", ["cut", "empty", "text"])
def test_a_broken_file_is_named_before_work_starts(tmp_path: Path, harm: str) -> None:
    path = write(tmp_path / "a.arrow", [10, 10])
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[:-20], "empty": b"", "text": b"a,b\n1,2\n"}[harm])
    with pytest.raises(InputError, match=r"a\.arrow: no readable Arrow file \(.+\)$"):
        plan_of(str(path))


def test_damage_within_a_text_is_an_error_and_no_crash(tmp_path: Path) -> None:
    path = write(tmp_path / "a.arrow", [3])
    data = path.read_bytes()
    offsets = b"".join(n.to_bytes(4, "little") for n in (0, 2, 4, 6))
    assert data.count(offsets) == 1
    path.write_bytes(data.replace(offsets, offsets[:-4] + b"\xff\xff\xff\x7f"))
    with pytest.raises(InputError, match=r"a\.arrow: .+"):
        rows_of(plan_of(str(path)))
