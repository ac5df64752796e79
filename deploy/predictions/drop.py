"""The drop folder: Parquet files of labels, `<home>/labels/drop/<model>/[<environment>/]*.parquet`.

Each content is ingested once, also after a kill at any moment:

1. The labels are written as a segment under a name made of the content's digest, which does not
   count yet.
2. The file is moved to `labels/done/<model>/<environment>/<digest>-<name>`: this decides it.
3. The segment is published.

What an earlier run left: a segment of 1 counts if its file is in `done/` (the run was killed before
3), and is removed if not (before 2; the file is still in the drop folder). A content that is in
`done/` already is not ingested again.
"""

import fcntl
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from deploy.home import Home, write_atomically
from deploy.predictions.areas import label_area
from deploy.predictions.label_tables import LabelFileError, read_label_table
from deploy.predictions.labels import (
    Label,
    predicts_numbers,
    publish_labels,
    sync_name,
    write_labels,
)
from deploy.predictions.store import sync_folder
from serving_config.schema import Configuration

DEFAULT_ENVIRONMENT = "production"
_MARK = b"PAR1"
# A file without a footer that nobody has written to for so long will not get one.
_STALLED_SECONDS = 3600
_DIGEST_CHARACTERS = 32


class StillWrittenError(Exception):
    """Not complete yet: it is looked at again."""


@dataclass(frozen=True)
class Dropped:
    """A file of the drop folder."""

    path: Path
    model: str
    environment: str


@dataclass(frozen=True)
class Ingested:
    """What became of a file. rows: labels that count now; path: where it is now; reason: why it
    was rejected, or waits, or that its content was ingested before."""

    name: str
    model: str
    environment: str
    status: str
    path: Path
    rows: int = 0
    reason: str = ""


def drop_folder(home: Home) -> Path:
    """Where files are put."""
    return home.labels / "drop"


def dropped(home: Home) -> list[Dropped]:
    """The files there are, the oldest first; what begins with a dot is not looked at, nor a folder
    that is called as a file would be."""
    found = []
    for path in drop_folder(home).glob("*/**/*.parquet"):
        parts = path.relative_to(drop_folder(home)).parts
        hidden = any(part.startswith(".") for part in parts)
        if len(parts) in (2, 3) and not hidden and path.is_file():
            environment = parts[1] if len(parts) == 3 else DEFAULT_ENVIRONMENT
            with suppress(FileNotFoundError):
                found.append((path.stat().st_mtime, Dropped(path, parts[0], environment)))
    return [item for _, item in sorted(found, key=lambda pair: (pair[0], str(pair[1].path)))]


def ready(path: Path) -> bool:
    """Whether something will become of the file: it is complete, or will never be."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - len(_MARK)))
            whole = file.read() == _MARK
        return whole or time.time() - path.stat().st_mtime > _STALLED_SECONDS
    except FileNotFoundError:
        return False


def ingest_drop(
    home: Home, configuration: Configuration, now: datetime, only: Path | None = None
) -> list[Ingested]:
    """Ingest what lies in the drop folder, or one file of it; waits where another process is at it.

    Raises OSError where the disk does not take it: then the files stay where they are.
    """
    with _alone(home):
        _finish(home)
        return [
            _one(home, configuration, item, now)
            for item in dropped(home)
            if only is None or item.path == only
        ]


@contextmanager
def _alone(home: Home) -> Iterator[None]:
    home.labels.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home.labels / "drop.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _finish(home: Home) -> None:
    """See the module: what a killed run left."""
    for written in label_area(home).segments.glob("*/*/.drop-*"):
        environment, model = written.parts[-3:-1]
        if _done(home, model, environment, written.name.removeprefix(".drop-")):
            publish_labels(written)
        else:
            written.unlink()


def _done(home: Home, model: str, environment: str, digest: str) -> bool:
    folder = home.labels / "done" / model / environment
    return next(folder.glob(f"{digest}-*"), None) is not None


def _one(home: Home, configuration: Configuration, item: Dropped, now: datetime) -> Ingested:
    try:
        data, labels = _labels(home, configuration, item)
    except StillWrittenError as error:
        return _result(item, "waiting", item.path, reason=str(error))
    except LabelFileError as error:
        return _reject(home, item, str(error))
    digest = hashlib.sha256(data).hexdigest()[:_DIGEST_CHARACTERS]
    place = home.labels / "done" / item.model / item.environment / f"{digest}-{item.path.name}"
    if _done(home, item.model, item.environment, digest):
        item.path.unlink()
        return _result(item, "known", place, reason="this content was ingested before")
    written = write_labels(
        home, item.model, item.environment, labels, f"file {item.path.name}", now, f"drop-{digest}"
    )
    sync_name(written)
    _move(item.path, place)
    publish_labels(written)
    return _result(item, "ingested", place, len(labels))


def _result(item: Dropped, status: str, path: Path, rows: int = 0, reason: str = "") -> Ingested:
    return Ingested(item.path.name, item.model, item.environment, status, path, rows, reason)


def _move(source: Path, place: Path) -> None:
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    source.rename(place)
    for folder in (place.parent, place.parent.parent, source.parent):
        sync_folder(folder)


def _reject(home: Home, item: Dropped, reason: str) -> Ingested:
    place = home.labels / "rejected" / item.model / item.environment
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    place /= item.path.name
    if place.exists():
        place = place.with_name(f"{time.time_ns()}-{place.name}")
    write_atomically(place.with_name(f"{place.name}.reason.txt"), f"{reason}\n".encode())
    _move(item.path, place)
    return _result(item, "rejected", place, reason=reason)


def _labels(home: Home, configuration: Configuration, item: Dropped) -> tuple[bytes, list[Label]]:
    for kind, name, known in (
        ("model", item.model, configuration.models),
        ("environment", item.environment, configuration.environments),
    ):
        if name not in known:
            raise LabelFileError(
                f"there is no {kind} {name!r}; {kind}s: {', '.join(sorted(known))}"
            )
    data = _complete(item.path)
    return data, read_label_table(_parquet(data), numbers=predicts_numbers(home, item.model))


def _complete(path: Path) -> bytes:
    """The content, once its writer is done: a Parquet file ends as it begins."""
    data = path.read_bytes()
    status = path.stat()
    if len(data) != status.st_size:
        raise StillWrittenError("it is still growing")
    if len(data) >= 12 and data.startswith(_MARK) and data.endswith(_MARK):
        return data
    if time.time() - status.st_mtime > _STALLED_SECONDS:
        raise LabelFileError("it is no Parquet file: it does not begin and end with PAR1")
    raise StillWrittenError("it has no Parquet footer yet")


def _parquet(data: bytes) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise LabelFileError(f"it is not to be read as Parquet: {error}") from error
