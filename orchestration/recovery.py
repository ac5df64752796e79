"""Dagster's storage before the platform starts: its tables, and runs that were interrupted."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Dagster's tables are made by one process at a time: two that start at once break them for good.
_LOCK = int.from_bytes(b"dagster", "big")


class StorageError(RuntimeError):
    """Dagster's database cannot be used; one line, without the password."""


def prepare_storage(dagster_home: Path, storage_url: str | None) -> None:
    """Make Dagster's tables where they are missing. StorageError.

    Of processes with the same PostgreSQL one does it at a time; with SQLite the caller sees to it.
    """
    from dagster import DagsterInstance

    with _locked(storage_url), DagsterInstance.from_config(str(dagster_home)):
        pass


@contextmanager
def _locked(storage_url: str | None) -> Iterator[None]:
    if storage_url is None:
        yield
        return
    import sqlalchemy as sa

    options = {"connect_args": {"connect_timeout": 5}, "poolclass": sa.NullPool}
    try:
        with sa.create_engine(storage_url, **options).connect() as connection:
            connection.execute(sa.text(f"SELECT pg_advisory_lock({_LOCK})"))
            yield
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        raise StorageError(f"Dagster's database (SLIPWAY_DAGSTER_STORAGE_URL): {reason}") from error


def fail_interrupted_runs(dagster_home: Path) -> list[str]:
    """Mark runs failed whose process cannot be alive any more, and give their pools back.

    Call it while the platform is down. Dagster's own monitoring cannot tell for processes on
    this machine, and such a run would hold its model's deployment pool for ever. Dagster retries
    them (run_retries), and every step may be run again. Returns their ids.

    Nothing where a launcher gives runs a place of their own, on a cluster: they may be alive.
    """
    from dagster import DagsterInstance, DagsterRunStatus, RunsFilter
    from dagster._core.launcher import DefaultRunLauncher

    in_progress = [
        DagsterRunStatus.NOT_STARTED,
        DagsterRunStatus.STARTING,
        DagsterRunStatus.STARTED,
        DagsterRunStatus.CANCELING,
    ]
    with DagsterInstance.from_config(str(dagster_home)) as instance:
        if not isinstance(instance.run_launcher, DefaultRunLauncher):
            return []
        runs = instance.get_runs(RunsFilter(statuses=in_progress))
        for run in runs:
            instance.report_run_failed(run, "The platform stopped while this run was in progress.")
        # Also of runs that are over: one that was killed keeps its slots.
        for run_id in instance.event_log_storage.get_concurrency_run_ids():
            instance.event_log_storage.free_concurrency_slots_for_run(run_id)
        return [run.run_id for run in runs]
