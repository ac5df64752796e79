"""Labels: what turned out to be true of an answer, appended as whole, small segments."""

import math
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec

from bentos.model_server.contract import Scalar
from bentos.prediction_log.segments import MAGIC, Header, LabelBlock, frame
from deploy.home import Home
from deploy.predictions.areas import label_area
from deploy.predictions.store import sync_folder
from deploy.predictions.tables import microseconds
from deploy.versions import VersionFolder, version_labels

MAX_REQUEST_ID = 128
MAX_ROW = 1_000_000
MAX_TEXT = 1000
_BLOCK_ROWS = 50_000


class LabelError(RuntimeError):
    """Labels that could not be kept; none of them is."""


class Label(msgspec.Struct, frozen=True):
    """Ground truth of one row of an answer. label: as text for a class, a number for a value."""

    request_id: str
    label: str | int | float | bool
    row: int = 0


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with the label at an index."""

    index: int
    field: str
    message: str


def faults(labels: Sequence[Label], *, numbers: bool) -> list[Fault]:
    """What is wrong with them, in their order. numbers: the model predicts values."""
    found = []
    seen: dict[tuple[str, int], int] = {}
    for index, item in enumerate(labels):
        if not 0 < len(item.request_id) <= MAX_REQUEST_ID:
            message = f"has {len(item.request_id)} characters, not 1 to {MAX_REQUEST_ID}"
            found.append(Fault(index, "request_id", message))
        elif not _is_unicode(item.request_id):
            found.append(Fault(index, "request_id", "is no Unicode text"))
        if not 0 <= item.row <= MAX_ROW:
            found.append(Fault(index, "row", f"{item.row} is not 0 to {MAX_ROW}"))
        if (wrong := _wrong(item.label, numbers)) is not None:
            found.append(Fault(index, "label", wrong))
        first = seen.setdefault((item.request_id, item.row), index)
        if first != index:
            message = f"stands at {first} already, with row {item.row} too: send one of them"
            found.append(Fault(index, "request_id", message))
    return found


def _wrong(label: Scalar, numbers: bool) -> str | None:
    if isinstance(label, str) and not 0 < len(label) <= MAX_TEXT:
        return f"has {len(label)} characters, not 1 to {MAX_TEXT}"
    if isinstance(label, str) and not _is_unicode(label):
        return "is no Unicode text"
    if isinstance(label, float) and not math.isfinite(label):
        return f"{label} is no finite number"
    if numbers and (isinstance(label, bool) or not isinstance(label, int | float)):
        return f"{str(label)[:40]!r} is no number, and the model predicts one"
    return None


def _is_unicode(text: str) -> bool:
    """UTF-8 cannot write lone surrogates, which JSON can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def predicts_numbers(home: Home, model: str) -> bool:
    """Whether the newest version here is a regression; False where there is none yet."""
    for name in sorted(version_labels(home, model), key=_number, reverse=True):
        with suppress(OSError, msgspec.DecodeError):
            data = VersionFolder.of(home, model, name).contract_bytes()
            return msgspec.json.decode(data, type=_Contract).outputs.kind == "regression"
    return False


class _Outputs(msgspec.Struct):
    kind: str


class _Contract(msgspec.Struct):
    outputs: _Outputs


def _number(name: str) -> int:
    return int(name) if name.isdecimal() else 0


def append_labels(
    home: Home,
    model: str,
    environment: str,
    labels: Sequence[Label],
    actor: str,
    now: datetime,
) -> None:
    """All of them are on the disk when it returns, or none; LabelError says why. Several writers
    at once are in nobody's way. The latest label of a (request_id, row) counts."""
    try:
        written = write_labels(home, model, environment, labels, actor, now)
        publish_labels(written)
    except OSError as error:
        raise LabelError(f"the labels were not kept: {error}") from error


def write_labels(
    home: Home,
    model: str,
    environment: str,
    labels: Sequence[Label],
    actor: str,
    now: datetime,
    name: str = "",
) -> Path:
    """A segment on the disk that does not count until it is published. name: an unused one where
    it is left out."""
    folder = label_area(home).segments / environment / model
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f".{name or f'{microseconds(now)}-{secrets.token_hex(6)}'}"
    header = Header(kind="labels", environment=environment, model=model, started=now.isoformat())
    with path.open("wb") as file:
        file.write(MAGIC + frame(header))
        for start in range(0, len(labels), _BLOCK_ROWS):
            file.write(frame(_block(labels[start : start + _BLOCK_ROWS], actor, now)))
        file.flush()
        os.fsync(file.fileno())
    return path


def publish_labels(written: Path) -> None:
    """Now they count."""
    written.rename(published(written))
    sync_name(written)


def sync_name(written: Path) -> None:
    """Its folder may be as new as the file is."""
    for folder in written.parents[:4]:
        sync_folder(folder)


def published(written: Path) -> Path:
    """The segment's name once it counts."""
    return written.with_name(f"{written.name.removeprefix('.')}.seg")


def _block(labels: Sequence[Label], actor: str, now: datetime) -> LabelBlock:
    count = len(labels)
    return LabelBlock(
        request_id=[item.request_id for item in labels],
        row=[item.row for item in labels],
        label=[item.label for item in labels],
        time=[microseconds(now)] * count,
        actor=[actor] * count,
    )
