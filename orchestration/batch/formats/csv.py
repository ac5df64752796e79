"""CSV (RFC 4180, UTF-8): a piece is a range of bytes; of a compressed file, the whole of it.

All columns are texts. A field without a character is missing, `""` is an empty text.
"""

import csv
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from gzip import GzipFile
from typing import TYPE_CHECKING, Any

from orchestration.batch.errors import InputError
from orchestration.batch.formats import Piece, csv_rows
from orchestration.batch.formats.csv_rows import RowEnds
from orchestration.batch.storage import open_input, storage_errors

if TYPE_CHECKING:
    import pyarrow as pa

_BOM = b"\xef\xbb\xbf"
_LONGEST_HEADER = 1024 * 1024


@dataclass(frozen=True)
class _Header:
    """end: the offset of the first row; line: its line."""

    names: list[str]
    end: int
    line: int


@contextmanager
def _opened(url: str) -> Iterator[Any]:
    """The file's text as bytes."""
    with storage_errors(url), open_input(url) as source:
        if not _compressed(url):
            yield source
            return
        with GzipFile(fileobj=source, mode="rb") as unpacked:
            yield unpacked


def _compressed(url: str) -> bool:
    return url.lower().endswith(".gz")


def _header(source: Any, url: str) -> _Header:
    source.seek(0)
    start = source.read(_LONGEST_HEADER)
    offset = len(_BOM) if start.startswith(_BOM) else 0
    rows = RowEnds(io.BytesIO(start[offset:]), url, offset, 1, None)
    end = next((int(ends[0]) for ends in rows if len(ends)), None)
    if end is None:
        raise InputError(f"{url}: empty, there is not even a header")
    if end == _LONGEST_HEADER:
        raise InputError(f"{url}, line 1: a header of {end:,} bytes or more")
    text = start[offset:end].decode().lstrip("\r\n")
    names = next(csv.reader(io.StringIO(text, newline=""), strict=True))
    return _Header(names, end, 1 + csv_rows.lines(start[:end]))


def schema(url: str) -> tuple["pa.Schema", bool]:
    """The header's names; there may be rows."""
    import pyarrow as pa

    with _opened(url) as source:
        return pa.schema([(name, pa.string()) for name in _header(source, url).names]), True


def pieces(url: str, part_rows: int) -> list[Piece]:
    """By one pass over the file, which finds rows that are none, too."""
    with _opened(url) as source:
        header = _header(source, url)
        source.seek(header.end)
        rows = RowEnds(source, url, header.end, header.line, len(header.names))
        return _cut(rows, header.end, sys.maxsize if _compressed(url) else part_rows)


def _cut(rows: RowEnds, start: int, part_rows: int) -> list[Piece]:
    pieces: list[Piece] = []
    end, first, count = start, 0, 0
    for ends in rows:
        for place in ends[part_rows - 1 - count % part_rows :: part_rows]:
            pieces.append(Piece(start, int(place), first, part_rows))
            start, first = int(place), first + part_rows
        count += len(ends)
        end = int(ends[-1]) if len(ends) else end
    return [*pieces, Piece(start, end, first, count - first)] if count > first else pieces


def batches(url: str, start: int, stop: int, rows: int) -> "Iterator[pa.RecordBatch]":
    """The rows of these bytes, as many at a time as a block holds."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    with _opened(url) as source:
        names = _header(source, url).names
        source.seek(start)
        reader = arrow_csv.open_csv(
            pa.PythonFile(_Bytes(source, stop - start), mode="r"),
            arrow_csv.ReadOptions(
                # One thread: parts are read side by side. No row is longer than a block.
                use_threads=False,
                block_size=csv_rows.CHUNK + 16,
                column_names=names,
            ),
            arrow_csv.ParseOptions(newlines_in_values=True),
            arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        with reader:
            yield from reader


class _Bytes(io.RawIOBase):
    """The next `size` bytes of a file between a byte order mark, as Arrow leaves one out that
    would be part of the first field, and a line end: without one, Arrow takes a missing last field
    for a quoted one if its row has quotes."""

    def __init__(self, source: Any, size: int) -> None:
        self._source = source
        self._left = size
        self._start, self._end = _BOM, b"\n"

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        more = len(self._start + self._end)
        size = self._left + more if size < 0 else size
        data: bytes = self._source.read(min(size - more, self._left))
        self._left -= len(data)
        if self._left and not data:
            raise EOFError("the file is shorter than it was")
        data, self._start = self._start + data, b""
        if not self._left:
            data, self._end = data + self._end, b""
        return data
