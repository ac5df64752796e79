"""Where the rows of a CSV file end (RFC 4180), without parsing it.

Outside of quotes a line end ends a row, and outside is where the number of quotes so far is even:
also after `""` within a field. That holds as long as quotes stand only around whole fields, which
is checked on the way, as are UTF-8 and the number of fields.
"""

from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from orchestration.batch.errors import InputError

# Read at once; no row is longer, so that a quote that is never closed does not take the file.
CHUNK = 4 * 1024 * 1024
_LF, _CR, _COMMA, _QUOTE = (ord(c) for c in '\n\r,"')
# What may stand outside of an opening or a closing quote: its twin makes it one of the text.
_BESIDE_QUOTE = np.isin(np.arange(256), [_LF, _CR, _COMMA, _QUOTE])

_Bytes = npt.NDArray[np.uint8]
_Mask = npt.NDArray[np.bool_]
_Places = npt.NDArray[np.int64]


class RowEnds:
    """One pass over a file from `offset`, where line `line` begins.

    columns: how many fields each row has; None for any number. Lines without a character are no
    rows.
    """

    def __init__(self, source: Any, url: str, offset: int, line: int, columns: int | None) -> None:
        self._source = source
        self._url = url
        self._offset = offset
        self._line = line
        self._columns = columns

    def __iter__(self) -> Iterator[_Places]:
        """Offsets in the file behind the rows, some at a time. InputError names the line of what
        is no CSV."""
        tail, more = b"", True
        while more:
            chunk = self._source.read(CHUNK)
            more = len(chunk) > 0
            data = tail + chunk
            # The last row's end may be left out.
            ends, filled = self._scan(data if more or data.endswith(b"\n") else data + b"\n")
            scanned = min(int(ends[-1]), len(data)) if len(ends) else 0
            tail = data[scanned:]
            if len(tail) > CHUNK or (tail and not more):
                self._refuse(data[:scanned], "this row does not end; is a quote not closed?")
            self._require_utf8(data[:scanned])
            yield np.minimum(ends[filled], len(data)) + self._offset
            self._line += lines(data[:scanned])
            self._offset += scanned

    def _scan(self, data: bytes) -> tuple[_Places, _Mask]:
        """Behind which bytes a line ends that is no part of a field; which of them are rows."""
        found = np.frombuffer(data, np.uint8)
        line = found == _LF
        if b"\r" in data:
            line[:-1] |= (found[:-1] == _CR) & ~line[1:]
        quotes = np.flatnonzero(found == _QUOTE)
        self._require_whole_fields(data, quotes)
        ends = _outside(np.flatnonzero(line), quotes) + 1
        starts = np.concatenate(([0], ends[:-1])) if len(ends) else ends
        lengths = ends - starts
        filled = ~((lengths == 1) | ((lengths == 2) & (found[starts] == _CR)))
        commas = _outside(np.flatnonzero(found == _COMMA), quotes)
        self._require_fields(data, starts[filled], ends[filled], commas)
        return ends, filled

    def _require_whole_fields(self, data: bytes, quotes: _Places) -> None:
        found = np.frombuffer(data, np.uint8)
        opening, closing = quotes[::2], quotes[1::2]
        before = _BESIDE_QUOTE[found[opening - 1]] | (opening == 0)
        last = len(data) - 1
        after = _BESIDE_QUOTE[found[np.minimum(closing + 1, last)]] | (closing == last)
        for place in sorted([*opening[~before][:1], *closing[~after][:1]])[:1]:
            self._refuse(data[:place], 'a quote within a field; write it as "" in a quoted field')

    def _require_fields(self, data: bytes, starts: _Places, ends: _Places, commas: _Places) -> None:
        for place in starts[ends - starts > CHUNK][:1]:
            self._refuse(data[:place], f"a row of more than {CHUNK:,} bytes")
        if self._columns is None:
            return
        fields = np.searchsorted(commas, ends) - np.searchsorted(commas, starts) + 1
        for row in np.flatnonzero(fields != self._columns)[:1]:
            said = f"{fields[row]} fields where the header has {self._columns}"
            self._refuse(data[: starts[row]], said)

    def _require_utf8(self, data: bytes) -> None:
        try:
            _ = data.isascii() or data.decode()
        except UnicodeDecodeError as problem:
            self._refuse(data[: problem.start], "not UTF-8; save the file in that encoding")

    def _refuse(self, before: bytes, said: str) -> NoReturn:
        raise InputError(f"{self._url}, line {self._line + lines(before)}: {said}")


def _outside(places: _Places, quotes: _Places) -> _Places:
    return places[np.searchsorted(quotes, places) % 2 == 0] if len(quotes) else places


def lines(data: bytes) -> int:
    """How many lines end in it, within quoted fields too."""
    ends = data.count(b"\n")
    return ends + data.count(b"\r") - data.count(b"\r\n") if b"\r" in data else ends
