"""The segments in a folder: which there are, which are complete, and the rows in them."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, BinaryIO

from bentos.prediction_log.segments import Header, SegmentError, read_header
from deploy.predictions.areas import Area
from deploy.predictions.plans import Taken
from deploy.predictions.tables import tables


@dataclass(frozen=True)
class SegmentFile:
    """name: the path below `segments/`, `<environment>/<model>/…`."""

    path: Path
    name: str

    @property
    def environment(self) -> str:
        """Of its folder."""
        return self.name.split("/")[0]

    @property
    def model(self) -> str:
        """Of its folder."""
        return self.name.split("/")[1]

    def taken(self) -> Taken:
        """As a plan names it."""
        status = self.path.stat()
        return Taken(self.name, status.st_size, status.st_mtime_ns)

    @contextmanager
    def opened(self) -> Iterator[tuple[BinaryIO, Header | None]]:
        """At the first block; without a header there is none. FileNotFoundError, SegmentError."""
        with _open(self.path) as file:
            header = read_header(file)
            if header is not None and (header.environment, header.model) != (
                self.environment,
                self.model,
            ):
                raise SegmentError(f"its header is of {header.model} in {header.environment}")
            yield file, header

    def has(self, text: str) -> bool:
        """Whether the text may be in a row of it; FileNotFoundError."""
        with _open(self.path) as file:
            if not os.fstat(file.fileno()).st_size:
                return False
            with mmap(file.fileno(), 0, access=ACCESS_READ) as content:
                return content.find(text.encode()) >= 0

    def tables(self) -> Iterator[tuple[Header, Any]]:
        """The rows, some ten thousand at a time, with the header. SegmentError, after the rows
        that could be read, for what is damaged; an `.open` one may end with a part of a frame."""
        with self.opened() as (file, header):
            if header is None:
                return
            for table in tables(file, header):
                yield header, table
            left = os.fstat(file.fileno()).st_size - file.tell()
            if left and self.path.suffix == ".seg":
                raise SegmentError(f"its last {left} bytes are no whole frames")


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        if path.suffix != ".open":
            raise
        return path.with_suffix(".seg").open("rb")  # closed since the folder was listed


def list_segments(
    area: Area,
    environment: str = "*",
    model: str = "*",
    suffixes: Sequence[str] = (".seg", ".open"),
) -> list[SegmentFile]:
    """All there are; one that its writer closes meanwhile is there once, under its first name."""
    found: dict[str, SegmentFile] = {}
    # A file that is renamed while a folder is listed may be missing in that list, once.
    for _ in range(2):
        for path in area.segments.glob(f"{environment}/{model}/**/*"):
            if path.suffix in suffixes:
                name = path.relative_to(area.segments).as_posix()
                found.setdefault(name.removesuffix(path.suffix), SegmentFile(path, name))
    return [found[name] for name in sorted(found)]


def complete_segments(area: Area) -> list[SegmentFile]:
    """Those that nobody writes any more. Writers lock a segment before it has its name."""
    return [
        segment
        for segment in list_segments(area)
        if segment.path.suffix == ".seg" or _abandoned(segment.path)
    ]


def _abandoned(path: Path) -> bool:
    with suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return path.exists()  # not closed, and with that unlocked, since the folder was listed
    return False
