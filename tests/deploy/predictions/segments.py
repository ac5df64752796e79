"""Segments as the model servers leave them, written by hand."""

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from bentos.prediction_log.segments import MAGIC, Block, Header, frame
from deploy.home import Home

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def header(**changes: Any) -> Header:
    fields: dict[str, Any] = {
        "kind": "predictions",
        "environment": "production",
        "model": "iris",
        "label": "1",
        "onnx_sha256": "a" * 64,
        "columns": ("width", "colour"),
        "dtypes": ("float64", "string"),
        "classes": ("setosa", "virginica"),
    }
    return Header(**fields | changes)


def micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def block(ids: Sequence[str], at: datetime = NOON, **changes: Any) -> Block:
    """Rows of `header()`, a second after each other from `at` on."""
    count = len(ids)
    fields: dict[str, Any] = {
        "request_id": list(ids),
        "row": [0] * count,
        "time": [micros(at) + number * 1_000_000 for number in range(count)],
        "status": [200] * count,
        "latency_us": [1500] * count,
        "source": ["client"] * count,
        "features": [[float(number) for number in range(count)], ["red"] * count],
        "prediction": ["setosa"] * count,
        "probabilities": [[0.75] * count, [0.25] * count],
        "entities": [None] * count,
        "lookups": [None] * count,
    }
    return Block(**fields | changes)


def folder(home: Home, of: Header) -> Path:
    path = home.predictions / "segments" / of.environment / of.model / of.label
    path.mkdir(parents=True, exist_ok=True)
    return path


def content(of: Header, *blocks: Any) -> bytes:
    return MAGIC + frame(of) + b"".join(frame(item) for item in blocks)


def segment(home: Home, name: str, *blocks: Any, of: Header | None = None) -> Path:
    """A complete one."""
    of = of or header()
    path = folder(home, of) / f"{name}.seg"
    path.write_bytes(content(of, *blocks))
    return path


@contextmanager
def living(home: Home, name: str, of: Header | None = None) -> Iterator[BinaryIO]:
    """One that its writer has: flush what you write."""
    path = folder(home, of or header()) / f"{name}.open"
    with path.open("wb", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(content(of or header()))
        yield file
