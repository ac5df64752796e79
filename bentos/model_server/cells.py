"""Numbers that count up, cheap enough for every request, added up over the workers of one server.

Each number is one cell, a float64 in an array; adding to it takes less than 0.1 µs, where a
lock and a dictionary take ten times that. With several workers each array is a file of its own in
a folder that they share, and whichever worker is asked adds all of them up.
"""

import fcntl
import json
import mmap
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

CAPACITY = 16_384
# Files of workers that ended are added up into one beyond this many: a worker that is restarted
# again and again must not fill the disk.
MAX_ENDED = 8

Key = tuple[str, ...]


class Retired(msgspec.Struct):
    """`retired.json`: the sums of workers that ended. folded: whose files are in it already."""

    folded: list[str] = []
    values: list[tuple[Key, float]] = []


class Cells:
    """One worker's array. Keys are a metric's name, then the values of its labels.

    folder: shared by the workers of one server; None for a single worker, which needs no file.
    Not thread-safe: everything counts on the event loop.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._indexes: dict[Key, int] = {}
        self._name = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        if folder is None:
            self.values = memoryview(bytearray(8 * CAPACITY)).cast("d")
            return
        with _locked(folder):
            _fold(folder)
            (folder / f"{self._name}.keys").touch()
            # Unlinked only by a later worker, which finds the process gone.
            with (folder / f"{self._name}.cells").open("w+b") as file:
                # Not a sparse file: on a full disk the first count in it would be the end.
                os.posix_fallocate(file.fileno(), 0, 8 * CAPACITY)
                self.values = memoryview(mmap.mmap(file.fileno(), 8 * CAPACITY)).cast("d")

    def index(self, *key: str) -> int:
        """Where a number is in `values`, allocated at the first call. The last cell takes
        whatever does not fit any more."""
        if (found := self._indexes.get(key)) is not None:
            return found
        place = min(len(self._indexes), CAPACITY - 1)
        if place == CAPACITY - 1:
            return place
        if self._folder is not None:
            with (self._folder / f"{self._name}.keys").open("a") as file:
                file.write(json.dumps(key) + "\n")
        self._indexes[key] = place
        return place

    def totals(self) -> dict[Key, float]:
        """The sums over all workers, also those that ended; this one's gauges are its own."""
        if self._folder is None:
            return {key: self.values[place] for key, place in self._indexes.items()}
        with _locked(self._folder):
            return _sum(self._folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _lives(name: str) -> bool:
    try:
        os.kill(int(name.partition("-")[0]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _retired(folder: Path) -> Retired:
    try:
        return msgspec.json.decode((folder / "retired.json").read_bytes(), type=Retired)
    except FileNotFoundError:
        return Retired()


def _read(folder: Path, name: str) -> Iterator[tuple[Key, float]]:
    data = memoryview((folder / f"{name}.cells").read_bytes()).cast("d")
    lines = (folder / f"{name}.keys").read_text().splitlines(keepends=True)
    for place, line in enumerate(lines):
        try:
            key = json.loads(line)
        except ValueError:  # the worker was killed, or the disk was full, while it wrote
            return
        yield tuple(key), data[place]


def _names(folder: Path, retired: Retired) -> list[str]:
    found = sorted(path.stem for path in folder.glob("*.cells"))
    return [name for name in found if name not in retired.folded]


def is_gauge(key: Key) -> bool:
    """What stands for a moment, not for a history: of a worker that ended it means nothing."""
    return key[0].startswith("gauge:")


def _sum(folder: Path) -> dict[Key, float]:
    retired = _retired(folder)
    total = dict(retired.values)
    for name in _names(folder, retired):
        lives = _lives(name)
        for key, value in _read(folder, name):
            if lives or not is_gauge(key):
                total[key] = total.get(key, 0.0) + value
    return total


def _fold(folder: Path) -> None:
    """Add the files of ended workers to `retired.json`; killed at any moment, nothing counts
    twice: what that file names is not read again."""
    retired = _retired(folder)
    ended = [name for name in _names(folder, retired) if not _lives(name)]
    if len(ended) > MAX_ENDED:
        values = dict(retired.values)
        for name in ended:
            for key, value in _read(folder, name):
                if not is_gauge(key):
                    values[key] = values.get(key, 0.0) + value
        retired = Retired([*retired.folded, *ended], list(values.items()))
        _replace(folder / "retired.json", msgspec.json.encode(retired))
    for name in retired.folded:
        for suffix in ("cells", "keys"):
            (folder / f"{name}.{suffix}").unlink(missing_ok=True)


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_bytes(data)
    temporary.replace(path)
