"""What a log has got since the last look, also across the rotation of deploy/logs.py."""

from collections.abc import Iterator
from pathlib import Path
from typing import IO

_CHUNK_BYTES = 256 << 10
_HEAD_BYTES = 256


def _head(file: IO[bytes]) -> bytes:
    """The first bytes: no two files that a log ever was have the same."""
    file.seek(0)
    return file.read(_HEAD_BYTES)


class LogTail:
    """From the beginning of what there is. A line is read once it is whole.

    Of several rotations between two looks all but the last are lost, as they are for everybody. A
    look into the middle of one may read lines twice.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rotated_path = path.with_suffix(".log.1")
        self._position = 0
        self._head = b""
        self._rotated_head: bytes | None = None
        self._rest = b""  # behind the last whole line
        self._torn = b""  # as the rotated file ended

    def groups(self) -> Iterator[list[bytes]]:
        """The lines, some at a time; to be read to the end. FileNotFoundError without the log."""
        with self._path.open("rb", buffering=0) as log:
            if self._was_rotated(log):
                yield from self._rest_of_rotated()
                self._position, self._head = 0, b""
            yield from self._read(log)

    def _was_rotated(self, log: IO[bytes]) -> bool:
        size = log.seek(0, 2)
        if size < self._position or not _head(log).startswith(self._head):
            return True
        # So few bytes may begin both files.
        return len(self._head) < _HEAD_BYTES and self._read_rotated_head() != self._rotated_head

    def _read_rotated_head(self) -> bytes | None:
        try:
            with self._rotated_path.open("rb", buffering=0) as file:
                return _head(file)
        except FileNotFoundError:
            return None

    def _rest_of_rotated(self) -> Iterator[list[bytes]]:
        self._rotated_head = self._read_rotated_head()
        if self._rotated_head is None:
            return
        if not self._rotated_head.startswith(self._head):
            self._position = 0  # not the file that was read last, but one after it
        with self._rotated_path.open("rb", buffering=0) as file:
            yield from self._read(file)
        self._torn = self._rest

    def _read(self, file: IO[bytes]) -> Iterator[list[bytes]]:
        """Whole lines from the position on."""
        file.seek(self._position)
        self._rest = b""
        while chunk := file.read(_CHUNK_BYTES):
            whole, end, self._rest = (self._rest + chunk).rpartition(b"\n")
            if not end:
                continue
            lines = whole.split(b"\n")
            self._position += len(whole) + 1
            if self._torn:  # its other half may be there or lost: one of the two is a line
                lines.insert(0, self._torn + lines[0])
                self._torn = b""
            yield lines
        self._head = _head(file)[: self._position]
