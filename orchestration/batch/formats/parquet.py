"""Parquet: a piece is a run of row groups, known from the footer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from deploy.storage_errors import reason
from orchestration.batch.errors import InputError
from orchestration.batch.formats import Piece, runs
from orchestration.batch.storage import is_local, open_input, open_location, storage_errors

if TYPE_CHECKING:
    import pyarrow as pa

# Columns are read as streams of pages, so that a row group of any size needs no more memory than
# what is read ahead: in each column, and in all of them together.
_AHEAD, _LOCAL_AHEAD = 256 * 1024, 64 * 1024 * 1024
# From object storage a row group up to this size is fetched as a whole, in few requests.
_REMOTE_AHEAD = 256 * 1024 * 1024


@contextmanager
def _opened(url: str) -> Iterator[Any]:
    """The open ParquetFile."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    local = is_local(open_location(url)[0])
    with storage_errors(url), open_input(url, cache_type="none") as source:
        try:
            footer = pq.read_metadata(source)
            file = pq.ParquetFile(
                source,
                metadata=footer,
                page_checksum_verification=True,
                **_reading(footer, local=local),
            )
        except (pa.ArrowException, OSError) as problem:
            raise InputError(f"{url}: no readable Parquet file ({reason(problem)})") from problem
        with file:
            yield file


def _reading(footer: Any, *, local: bool) -> dict[str, Any]:
    columns = max(footer.num_columns, 1)
    if local:
        return {"pre_buffer": False, "buffer_size": min(_AHEAD, _LOCAL_AHEAD // columns)}
    sizes = (footer.row_group(n).total_byte_size for n in range(footer.num_row_groups))
    if max(sizes, default=0) <= _REMOTE_AHEAD:
        return {"pre_buffer": True}
    return {"pre_buffer": False, "buffer_size": max(_AHEAD, _REMOTE_AHEAD // columns)}


def schema(url: str) -> tuple["pa.Schema", bool]:
    """Of the footer, and whether there are rows."""
    with _opened(url) as file:
        return file.schema_arrow, file.metadata.num_rows > 0


def pieces(url: str, part_rows: int) -> list[Piece]:
    """From the footer."""
    with _opened(url) as file:
        footer = file.metadata
        return runs([footer.row_group(n).num_rows for n in range(footer.num_row_groups)], part_rows)


def batches(url: str, start: int, stop: int, rows: int) -> "Iterator[pa.RecordBatch]":
    """The rows of these row groups, about `rows` at a time."""
    with _opened(url) as file:
        for group in range(start, stop):
            yield from file.iter_batches(rows, row_groups=[group], use_threads=False)
