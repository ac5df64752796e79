"""The drop folder of a model: files that are put there are moved to the day's input and scored.

`<home>/batch/<model>/drop/<name>` becomes `<home>/batch/<model>/input/<day>/<name>`.
"""

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from deploy.home import Home

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".arrow", ".feather")
# How long nobody has written to a file that is complete.
SETTLED_SECONDS = 15.0
# A file whose end is missing and that nobody has written to for so long will not get one: the
# run that takes it says so.
_STALLED_SECONDS = 3600.0
_ENDS = {".parquet": b"PAR1", ".arrow": b"ARROW1", ".feather": b"ARROW1"}


def drop_folder(home: Home, model: str) -> Path:
    """Where files are put."""
    return home.batch / model / "drop"


def input_folder(home: Home, model: str, day: str) -> Path:
    """Where a day's files lie."""
    return home.batch / model / "input" / day


def complete_files(home: Home, model: str, now: float) -> list[Path]:
    """Files that are whole and will not change any more, sorted by name. now: seconds since 1970.

    Not looked at: names that begin with a dot or have another suffix, links, subfolders.
    """
    folder = drop_folder(home, model)
    if not folder.is_dir():
        return []
    named = (path for path in sorted(folder.iterdir()) if _is_taken(path.name))
    return [path for path in named if _is_complete(path, now)]


def move_files(home: Home, model: str, day: str, now: float) -> list[Path]:
    """Move the complete files to the day's input, each once; where they are now.

    A name that is there already is kept beside it, under a name with its digest, unless the
    content is the same: then it was dropped twice and is scored once.
    """
    folder = input_folder(home, model, day)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(folder.parent):
        return [_move(path, folder) for path in complete_files(home, model, now)]


def _is_taken(name: str) -> bool:
    return name.endswith(SUFFIXES) and not name.startswith((".", "_"))


def _is_complete(path: Path, now: float) -> bool:
    try:
        if path.is_symlink() or not path.is_file():
            return False
        status = path.stat()
        # The time of the last change to it at all, also of its name: nobody can set it back.
        settled = now - status.st_ctime
        return settled >= SETTLED_SECONDS and (settled >= _STALLED_SECONDS or _has_end(path))
    except OSError:  # gone, or not to be read: then the run says so that takes it at last
        return False


def _has_end(path: Path) -> bool:
    end = _ENDS.get(path.suffix)
    if end is None:
        return True
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - len(end)))
        return file.read() == end


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _move(path: Path, folder: Path) -> Path:
    target = folder / path.name
    if target.exists():
        digest = _sha256(path)
        for there in _names(target, digest):
            if not there.exists():
                target = there
                break
            if _sha256(there) == digest:
                path.unlink()
                return there
    path.rename(target)
    return target


def _names(path: Path, digest: str) -> Iterator[Path]:
    """Its own, then others until one is free."""
    yield path
    suffix = next(item for item in SUFFIXES if path.name.endswith(item))
    name = f"{path.name.removesuffix(suffix)}-{digest[:8]}"
    yield path.with_name(f"{name}{suffix}")
    yield from (path.with_name(f"{name}-{number}{suffix}") for number in count(2))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
