"""One JSON line for every answer, written beside the event loop.

Lines are encoded in small groups and handed to a thread: a terminal or a pipe that nobody reads
stops the thread, never the server. What does not fit into its queue is dropped and counted.
"""

import asyncio
import os
import queue
import select
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:  # it imports ONNX Runtime
    from bentos.model_server.session import Scored

GROUP = 256
FLUSH_SECONDS = 0.25
# Groups that wait for the thread: about 32,000 lines, 10 MB (more while answers are compared).
MAX_GROUPS = 128
# A line stays some kilobytes, whatever the request.
MAX_COMPARED_ROWS = 16
MAX_COMPARED_CLASSES = 20


class Line(msgspec.Struct, omit_defaults=True, gc=False):
    """One answer. time: RFC 3339, UTC; duration_ms: from the headers to the answer; rows: of an
    inference; caller: the key's name; trace_id: of the request's `traceparent`; predictions,
    probabilities: see `compare`."""

    time: str
    request_id: str
    method: str
    path: str
    status: int
    duration_ms: float
    model: str = ""
    version: str = ""
    rows: int = 0
    caller: str = ""
    trace_id: str = ""
    client: str = ""
    logger: str = msgspec.field(default_factory=lambda: "slipway.access")
    predictions: list[Any] | None = None
    probabilities: list[list[float]] | None = None

    def compare(self, scored: "Scored") -> None:
        """Say what was answered to the first rows, in full for up to 20 classes."""
        rows = scored.probabilities
        self.predictions = scored.labels[:MAX_COMPARED_ROWS]
        if rows is not None and len(rows[0]) <= MAX_COMPARED_CLASSES:
            self.probabilities = rows[:MAX_COMPARED_ROWS]


class Clock:
    """RFC 3339 with milliseconds; the part up to the second is made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._prefix = ""

    def now(self) -> str:
        """The time of day in UTC."""
        seconds = time.time()
        whole = int(seconds)
        if whole != self._second:
            self._second = whole
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(whole))
        return f"{self._prefix}{int((seconds - whole) * 1000):03d}Z"


def pieces(lines: bytes, most: int | None) -> Iterator[bytes]:
    """Whole lines, at most so many bytes together (but a longer line); all of it for None."""
    start = 0
    while most is not None and len(lines) - start > most:
        end = lines.rfind(b"\n", start, start + most) + 1 or lines.find(b"\n", start) + 1
        yield lines[start:end]
        start = end
    if start < len(lines):
        yield lines[start:]


class AccessLog:
    """descriptor: where the lines go; dropped: told how many were lost.

    To be made on the loop that uses it.
    """

    def __init__(self, dropped: Callable[[int], None], descriptor: int = 1) -> None:
        self._dropped = dropped
        self._descriptor = descriptor
        self._lines: list[Line] = []
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._groups: queue.Queue[bytes | None] = queue.Queue(MAX_GROUPS)
        # Workers share a pipe, into which only so much goes in one piece; a file takes any length.
        pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
        self._atomic = select.PIPE_BUF if pipe else None
        self._encode = msgspec.json.Encoder().encode_lines
        self._thread = threading.Thread(target=self._write, name="access-log", daemon=True)
        self._thread.start()

    def add(self, line: Line) -> None:
        """Take a line; it is written within FLUSH_SECONDS."""
        self._lines.append(line)
        if len(self._lines) >= GROUP:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Hand what there is to the thread."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if not lines:
            return
        try:
            self._groups.put_nowait(self._encode(lines))
        except queue.Full:
            self._dropped(len(lines))

    def close(self) -> None:
        """Write what is left; gives up after a second."""
        self.flush()
        try:
            self._groups.put(None, timeout=1)
        except queue.Full:
            return
        self._thread.join(1)

    def _write(self) -> None:
        torn = False
        while (group := self._groups.get()) is not None:
            for piece in pieces(group, self._atomic):
                try:
                    self._write_all(b"\n" + piece if torn else piece)
                    torn = False
                except OSError:  # a full disk or a closed pipe: the next may fare better
                    torn = True
                    self._lose(piece.count(b"\n"))

    def _write_all(self, piece: bytes) -> None:
        view = memoryview(piece)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def _lose(self, lines: int) -> None:
        with suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(self._dropped, lines)
