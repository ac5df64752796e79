"""Jobs, schedule and sensor of batch scoring, without a row being scored."""

import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from deploy.dagster_names import watched_jobs
from deploy.home import Home
from orchestration.batch import drop as dropping
from orchestration.batch.drop import drop_folder
from orchestration.defs.batch import sensors
from orchestration.defs.batch.assets import batch_assets
from orchestration.defs.batch.jobs import batch_jobs, batch_request_jobs
from orchestration.defs.batch.schedules import batch_schedules, longest_gap, schedule_seconds
from orchestration.defs.batch.sensors import batch_sensors
from orchestration.resources.serving import Serving
from orchestration.steps.base import InProcess
from serving_config.load import FOLDER, load
from serving_config.schema import Configuration

pytestmark = pytest.mark.filterwarnings("ignore:Parameter .freshness_policy. of")


def configured(**batch: Any) -> Configuration:
    """The shipped settings; batch: of iris."""
    shipped = load(variables={})
    iris = shipped.models["iris"]
    settings = iris.batch.model_copy(update=batch)
    models = shipped.models | {"iris": iris.model_copy(update={"batch": settings})}
    return shipped.model_copy(update={"models": models})


def definitions(configuration: Configuration) -> dg.Definitions:
    jobs = batch_jobs(configuration)
    return dg.Definitions(
        assets=batch_assets(configuration),
        jobs=[*jobs.values(), *batch_request_jobs(configuration)],
        schedules=batch_schedules(configuration, jobs),
        sensors=batch_sensors(configuration, jobs),
        resources={"registry": object(), "serving": object(), "steps": InProcess()},
    )


def test_every_model_has_its_days_and_its_jobs() -> None:
    configuration = configured()
    made = definitions(configuration)
    dg.Definitions.validate_loadable(made)
    repository, graph = made.get_repository_def(), made.resolve_asset_graph()
    for model in configuration.models:
        days = graph.get(dg.AssetKey([model, "batch_predictions"])).partitions_def
        assert isinstance(days, dg.DailyPartitionsDefinition)
        assert days.get_first_partition_key() == "2025-01-01"
        assert days.get_last_partition_key() == datetime.now(UTC).date().isoformat()
        name = model.replace("-", "_")
        for job in (f"{name}_batch", f"{name}_batch_job"):
            # Else the platform ends it after an hour.
            assert int(repository.get_job(job).tags["dagster/max_runtime"]) > 100_000
        assert f"{name}_batch" in watched_jobs(configuration)
    assert batch_schedules(configuration, batch_jobs(configuration)) == []


def test_the_schedule_scores_the_day_before() -> None:
    configuration = configured(schedule="30 2 * * 1-5")
    repository = definitions(configuration).get_repository_def()
    (schedule,) = repository.schedule_defs
    at = datetime(2026, 3, 1, 2, 30, tzinfo=UTC)
    with dg.build_schedule_context(
        repository_def=repository, scheduled_execution_time=at
    ) as context:
        (request,) = schedule.evaluate_tick(context).run_requests or []
    assert request.partition_key == "2026-02-28"
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    assert schedule_seconds(configuration) == {"iris_batch": 3 * 86_400.0}  # over the weekend


@pytest.mark.parametrize(
    ("cron", "seconds"), [("0 * * * *", 3600), ("0 3 * * *", 86_400), ("0 9,17 * * *", 57_600)]
)
def test_how_long_a_schedule_lets_wait_at_most(cron: str, seconds: float) -> None:
    assert longest_gap(cron) == seconds


def test_a_schedule_waits_for_the_first_day() -> None:
    repository = definitions(
        configured(schedule="0 2 * * *", first_day=date(2026, 3, 1))
    ).get_repository_def()
    (schedule,) = repository.schedule_defs
    found = []
    for day in (1, 2):
        at = datetime(2026, 3, day, 2, tzinfo=UTC)
        with dg.build_schedule_context(
            repository_def=repository, scheduled_execution_time=at
        ) as context:
            tick = schedule.evaluate_tick(context)
            found.append([request.partition_key for request in tick.run_requests or []])
    assert found == [[], ["2026-03-01"]]


def test_a_model_without_the_check_has_none() -> None:
    graph = definitions(configured(drift_check=False)).resolve_asset_graph()
    checked = {key.asset_key.path[0] for key in graph.asset_check_keys}
    assert checked == {"customer-churn", "spam-detector"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(dropping, "SETTLED_SECONDS", 0.0)
    return Home(tmp_path)


def tick(home: Home, **batch: Any) -> list[dg.RunRequest]:
    """batch: of iris."""
    configuration = configured(**batch)
    (sensor,) = batch_sensors(configuration, batch_jobs(configuration))
    resources = {"serving": Serving(home=str(home.root), config_folder=str(FOLDER))}
    with (
        dg.instance_for_test() as instance,
        dg.build_sensor_context(
            instance=instance,
            resources=resources,
            repository_def=definitions(configuration).get_repository_def(),
        ) as context,
    ):
        return list(sensor.evaluate_tick(context).run_requests or [])


def test_dropped_files_are_todays_input_in_one_run(home: Home) -> None:
    assert tick(home) == []
    folder = drop_folder(home, "iris")
    assert folder.is_dir()  # for whoever wants to put something there
    (folder / "half.parquet").write_bytes(b"PAR1 rows")
    assert tick(home) == []
    for name in ("a.csv", "b.csv"):
        (folder / name).write_text("id\n1\n")
    (request,) = tick(home)
    assert (request.job_name, request.partition_key) == (
        "iris_batch",
        datetime.now(UTC).date().isoformat(),
    )
    assert request.run_config == {"ops": {"iris__batch_predictions": {"config": {"dropped": True}}}}
    (again,) = tick(home)
    if int(time.time() // 3600) == int(request.run_key.rpartition(":")[2]):  # no other hour begun
        assert again.run_key == request.run_key
    (folder / "c.csv").write_text("id\n2\n")
    (other,) = tick(home)
    assert other.run_key != request.run_key
    for name in ("a.csv", "b.csv", "c.csv"):
        assert (folder / name).exists()  # the run moves them


def test_each_model_has_a_drop_folder_of_its_own(home: Home) -> None:
    tick(home)
    for model in ("iris", "spam-detector"):
        (drop_folder(home, model) / "a.csv").write_text("id\n1\n")
    assert [request.job_name for request in tick(home)] == ["iris_batch", "spam_detector_batch"]


def test_what_is_wrong_with_one_drop_folder_does_not_stop_the_others(home: Home) -> None:
    folder = drop_folder(home, "spam-detector")
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text("id\n1\n")
    drop_folder(home, "iris").parent.mkdir()
    drop_folder(home, "iris").symlink_to(home.root / "away")  # no folder, and none can be made
    assert [request.job_name for request in tick(home)] == ["spam_detector_batch"]
    (folder / "a.csv").unlink()
    with pytest.raises(Exception, match="iris/drop: File exists"):
        tick(home)


def test_files_for_a_model_whose_first_day_is_to_come_wait(home: Home) -> None:
    tick(home)
    for model in ("iris", "spam-detector"):
        (drop_folder(home, model) / "a.csv").write_text("id\n1\n")
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date()
    assert [r.job_name for r in tick(home, first_day=tomorrow)] == ["spam_detector_batch"]
    assert (drop_folder(home, "iris") / "a.csv").exists()


def test_a_file_that_goes_while_it_is_looked_at_is_no_failure(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = drop_folder(home, "iris") / "a.csv"  # a run has just moved it
    monkeypatch.setattr(
        sensors, "complete_files", lambda _, model, *__: [gone] if model == "iris" else []
    )
    assert tick(home) == []
