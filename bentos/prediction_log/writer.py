"""From the event loop to the disk: rows become blocks on the loop, a thread writes them.

A block is put together in a few large calls. In a thread of its own it would hold the interpreter
as long, and cost twice as much for handing it to and fro; only the disk may take its time.

`best_effort`: what cannot be written, or does not fit into the memory that it may take meanwhile,
is dropped and counted. `durable`: whoever answers waits until the record is on the disk; one fsync
is for all that wait.
"""

import asyncio
import errno
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from bentos.prediction_log.masking import Mask
from bentos.prediction_log.records import BLOCK_ROWS, Record, block
from bentos.prediction_log.segment_writer import SegmentWriter
from bentos.prediction_log.segments import Block, frame

# Of the bodies in one block: long texts are few rows, and large.
BLOCK_BYTES = 4 << 20
# Of blocks that wait for the disk.
MAX_PENDING_BYTES = 128 << 20
_CLOSE_SECONDS = 10.0
logger = logging.getLogger("slipway.model_server")


class Told(Protocol):
    """Is told, on the event loop, what became of the records."""

    def logged(self, rows: int, size: int, seconds: float) -> None:
        """So many bytes were written in so many seconds."""

    def log_dropped(self, reason: str, rows: int) -> None:
        """Rows are lost."""

    def log_waiting(self, rows: int) -> None:
        """How many are not written yet."""

    def segments_closed(self, segments: int) -> None:
        """Segments were completed."""


class Events(Protocol):
    """Gets the same blocks."""

    def offer(self, block: Block) -> None:
        """Take a block, or drop it; never waits."""

    def close(self) -> None:
        """At shutdown; waits a moment."""


@dataclass
class _Group:
    """Blocks on their way through the thread. failed: the reason why they are lost; waiting: told
    whether they are on the disk."""

    frames: list[bytes] = field(default_factory=list)
    rows: int = 0
    size: int = 0
    waiting: list["asyncio.Future[bool]"] = field(default_factory=list)
    seconds: float = 0.0
    failed: str | None = None


class PredictionWriter:
    """segments: None where only `events` get the records. classes: see `records.block`.

    To be made on the loop that uses it.
    """

    def __init__(
        self,
        mask: Mask,
        classes: int,
        segments: SegmentWriter | None,
        told: Told,
        *,
        durable: bool = False,
        flush_seconds: float = 1.0,
        max_pending_rows: int = 50_000,
        events: Events | None = None,
    ) -> None:
        self.durable = durable and segments is not None
        self._mask, self._classes = mask, classes
        self._segments, self._events, self._told = segments, events, told
        self._flush_seconds = flush_seconds
        self._max_rows = max_pending_rows
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle | None = None
        self._records: deque[Record] = deque()
        self._body_bytes = 0
        self._group = _Group()
        self._rows = self._size = 0  # neither written nor dropped yet
        self._writing = 0  # groups
        self._failing = False
        self._groups: queue.SimpleQueue[_Group | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def add(self, records: Sequence[Record], size: int) -> bool:
        """Take a request's rows, which are written within `flush_seconds`; whether there was room
        for them. size: of the request's body, in bytes."""
        rows = self._rows + len(records)
        if rows > self._max_rows or self._size > MAX_PENDING_BYTES:
            self._told.log_dropped("queue_full", len(records))
            return False
        self._rows = rows
        self._records.extend(records)
        self._body_bytes += size
        if self.durable:
            # While the thread is busy they wait for the next fsync; otherwise whatever else this
            # turn of the loop answers shares this one.
            if self._timer is None and not self._writing:
                self._timer = self._loop.call_soon(self.flush)
        elif len(self._records) >= BLOCK_ROWS or self._body_bytes >= BLOCK_BYTES:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(self._flush_seconds, self.flush)
        return True

    async def kept(self, records: Sequence[Record], size: int) -> bool:
        """Whether a request's rows are on the disk now."""
        if not self.add(records, size):
            return False
        future: asyncio.Future[bool] = self._loop.create_future()
        self._group.waiting.append(future)
        return await future

    def flush(self) -> None:
        """Make a block of what there is, and hand it to the thread; of many rows another one in
        the next turn of the loop."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._records:
            return
        self._make_block()
        if len(self._records) >= BLOCK_ROWS or (self._records and self.durable):
            self._timer = self._loop.call_soon(self.flush)
        elif self._records:
            self._timer = self._loop.call_later(self._flush_seconds, self.flush)
        if self.durable and self._records:
            return  # an answer waits for all of its rows
        group, self._group = self._group, _Group()
        self._size += group.size
        self._writing += 1
        self._groups.put(group)

    def _make_block(self) -> None:
        group, take = self._group, self._records.popleft
        records = [take() for _ in range(min(len(self._records), BLOCK_ROWS))]
        self._body_bytes = 0
        group.rows += len(records)
        try:
            found = block(records, self._mask, self._classes, time.time() - time.monotonic())
            data = frame(found)
        except Exception:
            logger.exception("Answers cannot be logged")
            group.failed = "error"
            return
        if self._segments is not None:
            group.frames.append(data)
            group.size += len(data)
        if self._events is not None:
            self._events.offer(found)

    async def close(self) -> None:
        """Write what is left and complete the segment; gives up after ten seconds."""
        while self._records:
            self.flush()
        self._groups.put(None)
        await asyncio.to_thread(self._thread.join, _CLOSE_SECONDS)

    def _run(self) -> None:
        group: _Group | None = _Group()
        while group is not None:
            try:
                timeout = None if self._segments is None else self._segments.seconds_left
                group = self._groups.get(timeout=timeout)
            except queue.Empty:
                pass
            else:
                if group is not None:
                    self._write(group)
            self._close_segment(ended=group is None)
        if self._events is not None:
            self._events.close()

    def _write(self, group: _Group) -> None:
        started = time.perf_counter()
        try:
            if self._segments is not None:
                for data in group.frames:
                    self._segments.append(data)
                if self.durable:
                    self._segments.sync()
        except OSError as error:
            group.failed = self._failed(error)
        else:
            if self._failing:
                logger.warning("The prediction log can be written again")
            self._failing = False
        group.seconds = time.perf_counter() - started
        self._tell(self._done, group)

    def _close_segment(self, *, ended: bool) -> None:
        if self._segments is None or not (ended or self._segments.is_due):
            return
        try:
            self._tell(self._told.segments_closed, self._segments.close())
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> str:
        """The reason, for the metrics; the first of a row of failures is in the server's log."""
        if not self._failing:
            logger.error("The prediction log cannot be written: %s", error)
        self._failing = True
        return "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "write_failed"

    def _done(self, group: _Group) -> None:
        self._rows -= group.rows
        self._size -= group.size
        self._writing -= 1
        if group.failed is None:
            self._told.logged(group.rows, group.size, group.seconds)
        else:
            self._told.log_dropped(group.failed, group.rows)
        self._told.log_waiting(self._rows)
        for future in group.waiting:
            if not future.done():
                future.set_result(group.failed is None)
        if self.durable and not self._writing and self._timer is None:
            self.flush()

    def _tell(self, *call: object) -> None:
        with suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(*call)  # type: ignore[arg-type]
