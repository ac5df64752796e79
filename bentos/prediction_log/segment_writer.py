"""One writer's segments on the disk: begun, filled, closed. To be used by one thread."""

import fcntl
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from bentos.prediction_log.segments import MAGIC, Header, frame


class SegmentWriter:
    """folder: where the segments lie, made with the first one; header: of a segment that begins
    now, given its time (RFC 3339).

    What could not be written is cut off again, and the next block begins another segment.
    """

    def __init__(
        self, folder: Path, header: Callable[[str], Header], most_bytes: int, most_seconds: float
    ) -> None:
        self._folder = folder
        self._header = header
        self._most_bytes, self._most_seconds = most_bytes, most_seconds
        self._descriptor: int | None = None
        self._path = folder
        self._size = 0  # of whole frames
        self._synced = 0  # what of it is surely on the disk
        self._empty = True
        self._ends = 0.0
        self._number = 0
        self._worker = f"{os.getpid()}-{secrets.token_hex(4)}"

    @property
    def seconds_left(self) -> float | None:
        """Until the segment is old enough to be closed; None where there is none."""
        return None if self._descriptor is None else max(0.0, self._ends - time.monotonic())

    def append(self, data: bytes) -> None:
        """Write one frame; OSError where it could not be, and then nothing of it is there."""
        if self._descriptor is None:
            self._begin()
        try:
            self._write(data)
        except OSError:
            self._give_up()
            raise
        self._size += len(data)
        self._empty = False

    def sync(self) -> None:
        """Until the system has it on the disk; OSError where it has not."""
        if self._descriptor is None:
            return
        try:
            os.fsync(self._descriptor)
        except OSError:
            self._size = self._synced
            self._give_up()
            raise
        self._synced = self._size

    @property
    def is_due(self) -> bool:
        """Whether the segment is large or old enough to be closed."""
        if self._descriptor is None:
            return False
        return self._size >= self._most_bytes or time.monotonic() >= self._ends

    def close(self) -> int:
        """Complete the segment; how many there were. OSError where the system cannot."""
        if self._descriptor is None:
            return 0
        descriptor, self._descriptor = self._descriptor, None
        try:
            os.fsync(descriptor)
        finally:
            self._finish(descriptor)
        return 1

    def _begin(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        now = datetime.now(UTC)
        self._number += 1
        name = f"{now:%Y%m%dT%H%M%S}-{self._worker}-{self._number}"
        hidden, self._path = self._folder / f".{name}", self._folder / f"{name}.open"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(hidden, flags, 0o600)
        try:
            # Before anybody sees the file: one that is not locked is taken for a dead writer's.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._descriptor = descriptor
            self._write(MAGIC + frame(self._header(now.isoformat().replace("+00:00", "Z"))))
            self._size = self._synced = os.fstat(descriptor).st_size
            hidden.rename(self._path)
            self._sync_folder()
        except OSError:
            self._descriptor = None
            with suppress(OSError):
                hidden.unlink(missing_ok=True)
                self._path.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        self._empty = True
        self._ends = time.monotonic() + self._most_seconds

    def _write(self, data: bytes) -> None:
        assert self._descriptor is not None  # noqa: S101 - called with a segment alone
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def _give_up(self) -> None:
        """Cut off what is not whole and close the segment: what was written before it counts."""
        descriptor, self._descriptor = self._descriptor, None
        assert descriptor is not None  # noqa: S101 - called with a segment alone
        with suppress(OSError):
            os.ftruncate(descriptor, self._size)
            os.fsync(descriptor)
        with suppress(OSError):
            self._finish(descriptor)

    def _finish(self, descriptor: int) -> None:
        try:
            if self._empty:
                self._path.unlink()
            else:
                self._path.rename(self._path.with_suffix(".seg"))
            self._sync_folder()
        finally:
            os.close(descriptor)

    def _sync_folder(self) -> None:
        """A name is on the disk when its folder is."""
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
