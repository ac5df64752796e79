"""The records of batch jobs in the home: what the control API tells of them.

`<home>/batch/jobs/<id>.json`, replaced by rename as the job goes on; the id is that of the Dagster
run that carries it out.
"""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from deploy.dagster_client import DagsterClient
from deploy.home import Home, write_atomically

State = Literal["queued", "running", "succeeded", "failed", "canceled"]
ENDED: tuple[State, ...] = ("succeeded", "failed", "canceled")
# What Dagster says of a run that has ended; of one that has not, the record knows more.
_OF_RUN: dict[str, State] = {"SUCCESS": "succeeded", "FAILURE": "failed", "CANCELED": "canceled"}
_INTERRUPTED = "DagsterExecutionInterruptedError"
_GONE = "its run ended before it could say how: post the job again, it goes on where it stopped"


# So many records are kept, by when they last changed. A job that was killed could not write down
# that it ended: it ended if its record has been as it is for longer than any run may take.
MAX_RECORDS = 1000
_SURELY_ENDED_SECONDS = 30 * 86_400


class BatchRecordError(RuntimeError):
    """A record that cannot be read."""


class BatchJobRecord(msgspec.Struct, frozen=True, kw_only=True):
    """As `GET /v1/batch-jobs/{id}` answers. Times are ISO 8601 in UTC; error: one sentence."""

    id: str
    model: str
    version: str | None
    environment: str
    input: str
    output: str
    engine: Literal["local", "ray"]
    actor: str
    state: State
    created_at: str
    parts: int = 0
    parts_done: int = 0
    rows_total: int | None = None
    rows_in: int = 0
    rows_out: int = 0
    rejects: int = 0
    rows_per_second: float = 0.0
    started_at: str | None = None
    finished_at: str | None = None
    manifest: str | None = None
    error: str | None = None


def records_folder(home: Home) -> Path:
    """Where they lie."""
    return home.batch / "jobs"


def read_record(folder: Path, job: str) -> BatchJobRecord | None:
    """None where there is no such job; BatchRecordError for one that is damaged."""
    path = _path(folder, job)
    try:
        return msgspec.json.decode(path.read_bytes(), type=BatchJobRecord)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise BatchRecordError(f"{path}: {error}; remove it: only its record is lost") from error


def write_record(folder: Path, record: BatchJobRecord) -> None:
    """Replace it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(_path(folder, record.id), msgspec.json.encode(record), mode=0o600)


def add_record(folder: Path, record: BatchJobRecord) -> None:
    """Write it unless there is one: a run that began at once knows more already. Those beyond
    MAX_RECORDS go."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = _path(folder, record.id)
    new = path.with_name(f".{path.name}.new")
    write_atomically(new, msgspec.json.encode(record), mode=0o600)
    with suppress(FileExistsError):
        os.link(new, path)
    new.unlink()
    _remove_oldest(folder)


def _remove_oldest(folder: Path) -> None:
    """Until MAX_RECORDS are left; one whose job has not ended stays."""
    paths = sorted(folder.glob("[!.]*.json"), key=_changed)
    surplus = len(paths) - MAX_RECORDS
    for path in paths:
        if surplus <= 0:
            return
        if _has_ended(folder, path):
            path.unlink(missing_ok=True)
            surplus -= 1


def _has_ended(folder: Path, path: Path) -> bool:
    if _changed(path) < time.time() - _SURELY_ENDED_SECONDS:
        return True
    try:
        record = read_record(folder, path.stem)
    except BatchRecordError:
        return True
    return record is None or record.state in ENDED


def newest_records(folder: Path, limit: int = 100) -> list[BatchJobRecord]:
    """Those that changed last, the newest job first."""
    paths = sorted(folder.glob("[!.]*.json"), key=_changed, reverse=True)[:limit]
    found = (read_record(folder, path.stem) for path in paths)
    return sorted((item for item in found if item), key=lambda r: r.created_at, reverse=True)


def settled(folder: Path, record: BatchJobRecord, dagster: DagsterClient) -> BatchJobRecord:
    """With the state that its run is in: one that was killed could not write it down.

    Raises DagsterError where Dagster does not answer: then nobody knows.
    """
    if record.state in ENDED:
        return record
    run = dagster.last_attempt(record.id)
    if run is not None and run.status not in _OF_RUN:
        return record
    # It may have ended well since it was read.
    now = read_record(folder, record.id) or record
    if now.state in ENDED:
        return now
    state = _OF_RUN[run.status] if run else "failed"
    said = run.error if run else None
    error = said if said and _INTERRUPTED not in said else _GONE
    return msgspec.structs.replace(now, state=state, error=error if state == "failed" else None)


def _path(folder: Path, job: str) -> Path:
    return folder / f"{job}.json"


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
