"""What a run says while a job goes on: in its log, and in the record that the control API reads."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec

from deploy.batch_jobs import BatchJobRecord, write_record
from orchestration.batch.documents import Manifest
from orchestration.batch.progress import JobProgress
from orchestration.batch.rate import rows_per_second
from orchestration.defs.lifecycle.failures import said_by

_SAY_SECONDS = 10.0
_WRITE_SECONDS = 1.0


class Progress:
    """Told after each part; says it now and then. say: a line of the run's log; keep: what the
    record is to have."""

    def __init__(
        self, say: Callable[[str], None], keep: Callable[..., None] = lambda **_: None
    ) -> None:
        self._say, self._keep = say, keep
        self._first: JobProgress | None = None
        self._said = self._kept = float("-inf")

    def watch(self, now: JobProgress) -> None:
        """See `orchestration.batch.job.Watch`."""
        if self._first is None:
            self._first = now
            if now.resumed_parts:
                self._say(f"{now.resumed_parts} of {now.parts} parts were done before: it goes on")
        rate = rows_per_second(now, self._first)
        at, last = monotonic(), now.parts_done == now.parts
        if at - self._said >= _SAY_SECONDS:
            self._said = at
            self._say(
                f"{now.parts_done} of {now.parts} parts, {now.rows_in:,} rows, "
                f"{now.rejects:,} rejects, {rate:,.0f} rows/s"
            )
        if last or at - self._kept >= _WRITE_SECONDS:
            self._kept = at
            self._keep(
                parts=now.parts,
                parts_done=now.parts_done,
                rows_total=now.rows_total,
                rows_in=now.rows_in,
                rows_out=now.rows_out,
                rejects=now.rejects,
                rows_per_second=rate,
            )


class Recorder:
    """Keeps a record that follows the job."""

    def __init__(self, folder: Path, record: BatchJobRecord) -> None:
        self._folder, self._record = folder, record
        self.keep()

    def keep(self, **changes: Any) -> None:
        """Replace these fields of it."""
        self._record = msgspec.structs.replace(self._record, **changes)
        write_record(self._folder, self._record)

    def succeeded(self, manifest: Manifest) -> None:
        """The result is there."""
        self.keep(
            state="succeeded",
            version=manifest.model.version,
            rows_in=manifest.rows_in,
            rows_out=manifest.rows_out,
            rejects=manifest.rejects,
            manifest=f"{manifest.output.rstrip('/')}/_manifest.json",
            finished_at=now_text(),
        )


@contextmanager
def recorded(folder: Path, record: BatchJobRecord) -> Iterator[Recorder]:
    """The record says how it ended, also where it did not end well. What is killed or canceled does
    not: that Dagster knows, see `deploy.batch_jobs.settled`."""
    recorder = Recorder(folder, record)
    try:
        yield recorder
    except Exception as error:
        recorder.keep(state="failed", error=said_by(error), finished_at=now_text())
        raise


def now_text() -> str:
    """ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
