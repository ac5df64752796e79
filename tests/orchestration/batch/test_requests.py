"""What was posted to `/v1/batch-jobs`, as Dagster carries it out, and the record of it."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError, DagsterInvalidConfigError

from deploy.batch_jobs import BatchJobRecord, read_record, records_folder
from deploy.dagster_names import ACTOR_TAG
from deploy.home import Home
from orchestration.batch import job as jobs
from orchestration.defs.batch.jobs import batch_request_jobs
from orchestration.steps.base import InProcess
from serving_config.load import load
from tests.deploy.control.controls import build, running
from tests.orchestration.batch.test_days import failure, flowers
from tests.orchestration.monitoring.world import World

CONFIGURATION = load(variables={})


def job(world: World) -> dg.JobDefinition:
    made = batch_request_jobs(CONFIGURATION)
    resources = {"serving": world.serving, "steps": InProcess()}
    return dg.Definitions(jobs=made, resources=resources).resolve_job_def("iris_batch_job")


def run(world: World, *, raises: bool = False, **config: Any) -> dg.ExecuteInProcessResult:
    return job(world).execute_in_process(
        run_config={"ops": {"iris_batch_job_request": {"config": config}}},
        tags={ACTOR_TAG: "ann"},
        raise_on_error=raises,
    )


def record(world: World, result: dg.ExecuteInProcessResult) -> BatchJobRecord:
    found = read_record(records_folder(world.serving.paths), result.run_id)
    assert found is not None
    return found


@pytest.fixture
def places(world: World, home: Home) -> dict[str, str]:
    folder = home.batch / "iris"
    (folder / "new").mkdir(parents=True)
    for number in range(3):
        flowers(world, 100).to_parquet(folder / "new" / f"{number}.parquet", index=False)
    return {"input": str(folder / "new"), "output": str(folder / "scored")}


def test_the_record_tells_the_result(world: World, places: dict[str, str]) -> None:
    result = run(world, **places, keys=["flower"])
    assert result.success
    found = record(world, result)
    assert (found.state, found.version, found.actor) == ("succeeded", "1", "ann")
    assert (found.parts, found.parts_done, found.rows_total) == (3, 3, 300)
    assert (found.rows_in, found.rows_out, found.rejects) == (300, 300, 0)
    assert found.rows_per_second > 0
    assert found.manifest == f"{places['output']}/_manifest.json"
    assert Path(found.manifest).is_file()
    assert found.created_at <= str(found.started_at) <= str(found.finished_at)
    assert found.error is None


def test_a_job_that_fails_says_why_in_its_record(world: World, places: dict[str, str]) -> None:
    run(world, **places)
    result = run(world, **places)
    found = record(world, result)
    assert found.state == "failed"
    assert found.error == failure(result)
    assert "is there already" in found.error
    assert found.finished_at is not None


def test_a_place_that_became_a_link_is_refused_by_the_run_too(
    world: World, home: Home, places: dict[str, str], tmp_path: Path
) -> None:
    (home.batch / "iris" / "way").symlink_to(tmp_path)
    output = str(home.batch / "iris" / "way" / "out")
    found = record(world, run(world, **places | {"output": output}))
    assert found.state == "failed"
    assert "is no place for requests" in str(found.error)
    assert list(tmp_path.iterdir()) == []


def test_a_defect_is_told_as_one_and_keeps_its_traceback(
    world: World, places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr(jobs, "run_job", broken)
    result = run(world, **places)
    assert record(world, result).error == "ZeroDivisionError: division by zero"


def test_an_engine_that_there_is_not_is_not_taken_for_another(
    world: World, places: dict[str, str]
) -> None:
    with pytest.raises(DagsterInvalidConfigError, match="spark"):
        run(world, raises=True, **places, engine="spark")


def test_a_damaged_record_does_not_keep_its_run_from_its_work(
    world: World, places: dict[str, str]
) -> None:
    name = "5f3c1f9e-0000-4000-8000-000000000000"
    folder = records_folder(world.serving.paths)
    folder.mkdir()
    (folder / f"{name}.json").write_text("{")
    result = job(world).execute_in_process(
        run_config={"ops": {"iris_batch_job_request": {"config": places}}}, run_id=name
    )
    assert record(world, result).state == "succeeded"


def test_how_a_run_ended_that_was_interrupted_is_left_to_dagster(
    world: World, places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: object) -> None:
        raise DagsterExecutionInterruptedError

    monkeypatch.setattr(jobs, "run_job", ended)
    result = run(world, **places)
    assert record(world, result).state == "running"


def test_what_the_api_sends_is_what_the_job_takes(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with running(tmp_path_factory.mktemp("h")) as api:
        build(api.control.home, 1)
        folder = api.control.home.batch / "iris"
        plain = {"model": "iris", "input": str(folder / "a"), "output": str(folder / "b")}
        full = {"keys": ["a"], "timestamp": "t", "engine": "ray", "overwrite": True}
        for more in ({}, full):
            answer = api.post("/v1/batch-jobs", plain | {"version": "v1"} | more)
            assert answer.status_code == 202
        assert {name for name, _, _ in api.dagster.launched} == {job(world).name}
        for configuration in api.dagster.configurations:
            assert configuration is not None
            assert dg.validate_run_config(job(world), configuration)
