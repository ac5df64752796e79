"""Removing what is older than it is to be kept."""

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from deploy.home import Home
from deploy.predictions.areas import Area, label_area, prediction_area
from serving_config.predictions import Predictions


@dataclass(frozen=True)
class Removed:
    """days: partitions of a model, an environment and a day; other_files: of the drop folder's
    `done/` and `rejected/`, of the quarantine, and what a killed writer left; bytes: of all."""

    days: int = 0
    files: int = 0
    bytes: int = 0
    other_files: int = 0
    seconds: float = 0.0


def remove_expired(home: Home, settings: Predictions, now: datetime) -> Removed:
    """Days (UTC) of predictions and labels that ended `retention_days` ago or earlier, and what was
    put away before then. Waits where another process compacts."""
    started = time.monotonic()
    kept_from = (now.astimezone(UTC) - timedelta(days=settings.retention_days)).date()
    areas = (prediction_area(home, settings), label_area(home))
    days = [sizes for area in areas for sizes in _remove_days(area, kept_from)]
    put_away = [path for kind in ("done", "rejected") for path in (home.labels / kind).rglob("*")]
    for area in areas:
        put_away += [*area.quarantine.rglob("*"), *area.segments.rglob(".*")]
    others = list(_remove_files(put_away, now.timestamp() - settings.retention_days * 86400))
    sizes = [size for day in days for size in day]
    return Removed(
        days=len(days),
        files=len(sizes),
        bytes=sum(sizes) + sum(others),
        other_files=len(others),
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


def _remove_files(paths: Iterable[Path], kept_from: float) -> Iterator[int]:
    """Their sizes."""
    for path in paths:
        with suppress(FileNotFoundError):  # a writer has given it its name since
            status = path.stat()
            # When it came there: renaming counts.
            if path.is_file() and status.st_ctime < kept_from:
                path.unlink()
                yield status.st_size
