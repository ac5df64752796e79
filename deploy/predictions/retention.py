"""Removing what is older than it is to be kept."""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from deploy.home import Home
from deploy.predictions.areas import Area, label_area, prediction_area
from serving_config.predictions import Predictions


@dataclass(frozen=True)
class Removed:
    """days: partitions of a model, an environment and a day; label_files: of the drop folder's
    `done/` and `rejected/`; bytes: of all files."""

    days: int = 0
    files: int = 0
    bytes: int = 0
    label_files: int = 0
    seconds: float = 0.0


def remove_expired(home: Home, settings: Predictions, now: datetime) -> Removed:
    """Days (UTC) of predictions and labels that ended `retention_days` ago or earlier, and the
    files of labels that were dropped before then. Waits where another process compacts."""
    started = time.monotonic()
    kept_from = (now.astimezone(UTC) - timedelta(days=settings.retention_days)).date()
    days = [
        sizes
        for area in (prediction_area(home, settings), label_area(home))
        for sizes in _remove_days(area, kept_from)
    ]
    label_files = list(_remove_label_files(home, now.timestamp() - settings.retention_days * 86400))
    sizes = [size for day in days for size in day]
    return Removed(
        days=len(days),
        files=len(sizes),
        bytes=sum(sizes) + sum(label_files),
        label_files=len(label_files),
        seconds=time.monotonic() - started,
    )


def _remove_days(area: Area, kept_from: date) -> Iterator[list[int]]:
    """The sizes of the files, for each day."""
    store = area.store()
    with area.compacting():
        for place in store.places():
            for day, folder in store.days(*place).items():
                if day < kept_from:
                    sizes = []
                    for path in store.files(folder):
                        sizes.append(store.size(path))
                        store.remove(path)
                    with suppress(OSError):  # something of somebody else's lies there
                        store.remove_folder(folder)
                    yield sizes


def _remove_label_files(home: Home, kept_from: float) -> Iterator[int]:
    for kind in ("done", "rejected"):
        for path in (home.labels / kind).glob("*/*/*"):
            if _changed(path) < kept_from:
                size = path.stat().st_size
                path.unlink()
                yield size
    for path in label_area(home).segments.glob("*/*/.*"):  # of a writer that was killed
        if _changed(path) < kept_from:
            path.unlink()


def _changed(path: Path) -> float:
    """When it came there: renaming counts."""
    return path.stat().st_ctime
