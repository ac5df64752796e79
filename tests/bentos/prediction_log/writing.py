"""Writing a prediction log without a server, and reading it back."""

import asyncio
import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bentos.prediction_log.masking import Mask
from bentos.prediction_log.records import Record
from bentos.prediction_log.segment_writer import SegmentWriter
from bentos.prediction_log.segments import Block, Header, read_blocks, read_header
from bentos.prediction_log.writer import PredictionWriter

INPUTS = (("age", "float64"), ("note", "string"))
CLASSES = ("a", "b")
NONE = (None, None)


class Counts:
    """What the metrics are told."""

    def __init__(self) -> None:
        self.rows = self.bytes = self.segments = self.waiting = 0
        self.dropped: dict[str, int] = {}

    def logged(self, rows: int, size: int, seconds: float) -> None:
        assert seconds >= 0
        self.rows += rows
        self.bytes += size

    def log_dropped(self, reason: str, rows: int) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + rows

    def log_waiting(self, rows: int) -> None:
        self.waiting = rows

    def segments_closed(self, segments: int) -> None:
        self.segments += segments


def header(started: str, mask: Mask | None = None) -> Header:
    columns = mask or Mask(INPUTS)
    return Header(
        kind="predictions",
        environment="staging",
        model="m",
        label="3",
        onnx_sha256="00",
        columns=columns.columns,
        dtypes=columns.dtypes,
        classes=CLASSES,
        started=started,
    )


def segments(folder: Path, most_bytes: int = 1 << 20, most_seconds: float = 60) -> SegmentWriter:
    return SegmentWriter(folder, header, most_bytes, most_seconds)


def writer(folder: Path, counts: Counts, **options: Any) -> PredictionWriter:
    """To be called on a loop."""
    return PredictionWriter(Mask(INPUTS), len(CLASSES), segments(folder), counts, **options)


def request(request_id: str, rows: int = 1, status: int = 200) -> list[Record]:
    """The rows of a request: (row number, its own id)."""
    if status != 200:
        nothing = (None, None)
        return [(request_id, 0, 1.5, 0.25, status, "client", nothing, None, nothing, None, None)]
    return [
        (request_id, i, 1.5, 0.25, 200, "client", (float(i), request_id), "a", (0.75, 0.25), *NONE)
        for i in range(rows)
    ]


async def until(condition: Any) -> None:
    """Let the loop run until it holds; ten seconds at most."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def blocks(folder: Path) -> list[Block]:
    """Of all segments, in the order of their names' numbers."""
    found: list[Block] = []
    for path in sorted(paths(folder), key=lambda path: int(path.stem.rpartition("-")[2])):
        with path.open("rb") as file:
            if read_header(file) is not None:
                found += read_blocks(file)
    return found


def paths(folder: Path) -> list[Path]:
    return [path for path in folder.glob("**/*") if path.suffix in (".open", ".seg")]


def keys(found: Iterable[Block]) -> list[tuple[str, int]]:
    return [key for block in found for key in zip(block.request_id, block.row, strict=True)]


def is_locked(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """As a full disk: writes beyond it fail in this process."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
