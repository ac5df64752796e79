"""Runs of a real Dagster instance that were in progress when everything stopped."""

from pathlib import Path

import dagster as dg
import pytest
from dagster import DagsterRunStatus
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from orchestration.recovery import fail_interrupted_runs

DAGSTER_YAML = """\
telemetry: {enabled: false}
concurrency: {pools: {default_limit: 1, granularity: op}}
"""
ENDED = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]
IN_PROGRESS = [
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


# What Dagster wants to know of a run in its queue.
ORIGIN = RemoteJobOrigin(
    RemoteRepositoryOrigin(
        InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name=__name__)), "__repository__"
    ),
    "nothing",
)


@dg.job
def nothing() -> None:
    """A job for the runs to be of."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "dagster.yaml").write_text(DAGSTER_YAML)
    return tmp_path


def _runs(home: Path, *statuses: DagsterRunStatus) -> list[str]:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        runs = [
            instance.create_run_for_job(nothing, status=status, remote_job_origin=ORIGIN)
            for status in statuses
        ]
        return [run.run_id for run in runs]


def _statuses(home: Path, run_ids: list[str]) -> list[DagsterRunStatus]:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        found = [instance.get_run_by_id(run_id) for run_id in run_ids]
        return [run.status for run in found if run]


def test_runs_that_were_in_progress_have_failed_and_are_named(home: Path) -> None:
    interrupted = _runs(home, *IN_PROGRESS)
    assert sorted(fail_interrupted_runs(home)) == sorted(interrupted)
    assert set(_statuses(home, interrupted)) == {DagsterRunStatus.FAILURE}
    assert fail_interrupted_runs(home) == []


def test_runs_that_ended_and_runs_that_wait_in_the_queue_stay_as_they_are(home: Path) -> None:
    statuses = [*ENDED, DagsterRunStatus.QUEUED]
    runs = _runs(home, *statuses)
    assert fail_interrupted_runs(home) == []
    assert _statuses(home, runs) == statuses


def test_an_interrupted_run_gives_its_model_s_deployment_pool_back(home: Path) -> None:
    (run_id,) = _runs(home, DagsterRunStatus.STARTED)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        storage = instance.event_log_storage
        storage.set_concurrency_slots("deploy_iris", 1)
        assert storage.claim_concurrency_slot("deploy_iris", run_id, "step").is_claimed
        assert not storage.claim_concurrency_slot("deploy_iris", "another", "step").is_claimed
    fail_interrupted_runs(home)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        storage = instance.event_log_storage
        assert storage.claim_concurrency_slot("deploy_iris", "another", "step").is_claimed


def test_why_a_run_failed_can_be_read_in_its_log(home: Path) -> None:
    (run_id,) = _runs(home, DagsterRunStatus.STARTED)
    fail_interrupted_runs(home)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        messages = [entry.message for entry in instance.all_logs(run_id)]
    assert any("The platform stopped while this run was in progress" in text for text in messages)


def test_a_dagster_that_never_ran_has_nothing_to_recover(home: Path) -> None:
    assert fail_interrupted_runs(home) == []


def test_a_run_that_was_killed_in_a_deployment_gives_its_pool_back(home: Path) -> None:
    (run_id,) = _runs(home, DagsterRunStatus.FAILURE)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.event_log_storage.claim_concurrency_slot("deploy_iris", run_id, "deployment")
        assert instance.event_log_storage.get_concurrency_run_ids() == {run_id}
    fail_interrupted_runs(home)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.event_log_storage.get_concurrency_run_ids() == set()
