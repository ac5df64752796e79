"""Where the prediction log and the labels lie, and the locks of those who change or read them."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bentos.prediction_log.segments import Kind
from deploy.home import Home
from deploy.predictions.store import Store
from serving_config.predictions import Predictions


@dataclass(frozen=True)
class Area:
    """One kind of records: its segments, plans and Parquet files.

    url: an fsspec URL of the Parquet files, where they are not in the area's own folder.
    """

    root: Path
    kind: Kind
    url: str | None = None

    @property
    def segments(self) -> Path:
        """`<environment>/<model>/…`, as the writers leave them."""
        return self.root / "segments"

    @property
    def plans(self) -> Path:
        """What compaction is about to do: see deploy/predictions/plans.py."""
        return self.root / "plans"

    @property
    def quarantine(self) -> Path:
        """Segments that could not be read, or only in part."""
        return self.root / "quarantine"

    def store(self) -> Store:
        """The Parquet files."""
        return Store(self.url or str((self.root / "parquet").absolute()))

    @contextmanager
    def compacting(self) -> Iterator[None]:
        """Of several processes one compacts, or removes; the others wait."""
        with self._locked("compaction.lock", fcntl.LOCK_EX):
            yield

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Nobody looks meanwhile. For moments: whoever reads waits for it."""
        with self._locked("snapshot.lock", fcntl.LOCK_EX):
            yield

    @contextmanager
    def looking(self) -> Iterator[None]:
        """The plans do not change meanwhile."""
        with self._locked("snapshot.lock", fcntl.LOCK_SH):
            yield

    @contextmanager
    def _locked(self, name: str, operation: int) -> Iterator[None]:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.root / name).open("a") as file:
            fcntl.flock(file, operation)
            yield


def prediction_area(home: Home, settings: Predictions) -> Area:
    """The prediction log's."""
    return Area(home.predictions, "predictions", settings.url)


def label_area(home: Home) -> Area:
    """That of the labels."""
    return Area(home.labels, "labels")
