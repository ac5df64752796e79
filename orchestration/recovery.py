"""Runs that were in progress when the platform stopped."""

from pathlib import Path


def fail_interrupted_runs(dagster_home: Path) -> list[str]:
    """Mark runs failed whose process cannot be alive any more, and give their pools back.

    Call it while the platform is down. Dagster's own monitoring cannot tell for processes on
    this machine, and such a run would hold its model's deployment pool for ever. Dagster retries
    them (run_retries), and every step may be run again. Returns their ids.
    """
    from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

    in_progress = [
        DagsterRunStatus.NOT_STARTED,
        DagsterRunStatus.STARTING,
        DagsterRunStatus.STARTED,
        DagsterRunStatus.CANCELING,
    ]
    with DagsterInstance.from_config(str(dagster_home)) as instance:
        runs = instance.get_runs(RunsFilter(statuses=in_progress))
        for run in runs:
            instance.report_run_failed(run, "The platform stopped while this run was in progress.")
        # Also of runs that are over: one that was killed keeps its slots.
        for run_id in instance.event_log_storage.get_concurrency_run_ids():
            instance.event_log_storage.free_concurrency_slots_for_run(run_id)
        return [run.run_id for run in runs]
