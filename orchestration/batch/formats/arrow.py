"""Arrow IPC files (.arrow, and .feather of version 2): a piece is a run of record batches.

The format can only be read by whole record batches: one of them for each thread is in memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from deploy.storage_errors import reason
from orchestration.batch.errors import InputError
from orchestration.batch.formats import Piece, runs
from orchestration.batch.storage import open_input, storage_errors

if TYPE_CHECKING:
    import pyarrow as pa

_STREAM = b"\xff\xff\xff\xff"
_FEATHER_1 = b"FEA1"


@contextmanager
def _opened(url: str, only: int | None = None) -> Iterator[Any]:
    """The open file; only: the one column that is read."""
    import pyarrow as pa
    from pyarrow import ipc

    options = ipc.IpcReadOptions(included_fields=None if only is None else [only])
    with storage_errors(url), open_input(url) as source:
        try:
            file = ipc.open_file(source, options=options)
        except (pa.ArrowException, OSError) as problem:
            raise InputError(f"{url}: {_explained(source, problem)}") from problem
        with file:
            yield file


def _explained(source: Any, problem: Exception) -> str:
    source.seek(0)
    start = source.read(4)
    if start == _STREAM:
        return (
            "in Arrow's stream format, which cannot be read in parts; write it with "
            "pyarrow.ipc.new_file instead of new_stream"
        )
    if start == _FEATHER_1:
        return "Feather of version 1; write it with pyarrow.feather.write_feather(…, version=2)"
    return f"no readable Arrow file ({reason(problem)})"


def schema(url: str) -> tuple["pa.Schema", bool]:
    """Of the file, and whether there are record batches."""
    with _opened(url) as file:
        return file.schema, file.num_record_batches > 0


def pieces(url: str, part_rows: int) -> list[Piece]:
    """From the batches' headers; of the rows, one column at most is read."""
    with _opened(url, only=0) as file:
        return runs([file.get_batch(n).num_rows for n in range(file.num_record_batches)], part_rows)


def batches(url: str, start: int, stop: int, rows: int) -> "Iterator[pa.RecordBatch]":
    """These record batches, one after another, at most `rows` rows at a time."""
    with _opened(url) as file:
        for number in range(start, stop):
            batch = file.get_batch(number)
            for first in range(0, batch.num_rows, rows):
                yield batch.slice(first, rows)
