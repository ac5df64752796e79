"""The assets, jobs, schedules and the sensor of the prediction log, run in this process."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deploy.home import Home
from deploy.predictions.areas import prediction_area
from deploy.predictions.compaction import compact
from deploy.predictions.drop import drop_folder
from deploy.predictions.labels import Label, append_labels
from deploy.predictions.reader import read_labels
from deploy.predictions.scan import Filter, read_rows
from orchestration.defs.predictions.assets import prediction_assets
from orchestration.defs.predictions.jobs import prediction_jobs
from orchestration.resources.serving import Serving
from serving_config.load import FOLDER
from serving_config.predictions import Predictions
from tests.deploy.predictions.segments import block, segment

NOW = datetime.now(UTC)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def definitions(home: Home) -> dg.Definitions:
    jobs, schedules, sensors = prediction_jobs()
    return dg.Definitions(
        assets=prediction_assets(),
        jobs=jobs,
        schedules=schedules,
        sensors=sensors,
        resources={"serving": Serving(home=str(home.root), config_folder=str(FOLDER))},
    )


def run(home: Home, job: str, **config: Any) -> dg.ExecuteInProcessResult:
    found = definitions(home).resolve_job_def(job)
    return found.execute_in_process(raise_on_error=False, **config)


def metadata(result: dg.ExecuteInProcessResult, *key: str) -> dict[str, Any]:
    (event,) = [
        item
        for item in result.get_asset_materialization_events()
        if item.asset_key == dg.AssetKey(key)
    ]
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_compaction_is_materialized_with_its_figures(home: Home) -> None:
    segment(home, "0-1", block(["a", "b"])).with_name("bad.seg").write_bytes(b"bad")
    append_labels(home, "iris", "production", [Label("a", "setosa")], "ann", NOW)
    result = run(home, "prediction_compaction")
    assert result.success
    found = metadata(result, "predictions", "compacted")
    assert (found["dagster/row_count"], found["segments"], found["files"]) == (2, 1, 1)
    assert found["bytes"] > 0
    assert found["rows_per_second"] > 0
    assert found["path"] == str(home.predictions / "parquet")
    (partition,) = (record.data for record in found["partitions"].records)
    assert partition == {
        "model": "iris",
        "environment": "production",
        "day": "2026-11-20",
        "files": "1",
    }
    assert found["damaged"].records[0].data["segment"] == "production/iris/1/bad.seg"
    assert metadata(result, "labels", "compacted")["dagster/row_count"] == 1


def test_a_compaction_is_not_started_beside_another(home: Home) -> None:
    schedules = {schedule.name: schedule for schedule in prediction_jobs()[1]}
    schedule = schedules["prediction_compaction_schedule"]
    assert schedule.cron_schedule == "*/5 * * * *"
    job = definitions(home).resolve_job_def("prediction_compaction")
    # Entered: it opens the instance again, and what is left open is there for all later tests.
    with (
        dg.instance_for_test() as instance,
        dg.build_schedule_context(instance=instance, scheduled_execution_time=NOW) as context,
    ):
        assert schedule.evaluate_tick(context).run_requests
        instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
        assert not schedule.evaluate_tick(context).run_requests


def test_what_is_too_old_goes(home: Home) -> None:
    segment(home, "0-1", block(["a"], NOW - timedelta(days=4000)), block(["b"], NOW))
    compact(home, Predictions(), NOW)
    assert run(home, "prediction_retention").success
    rows = read_rows(
        prediction_area(home, Predictions()), "iris", "production", Filter(), ["request_id"]
    )
    assert rows["request_id"].to_pylist() == ["b"]


def drop(home: Home, name: str, labels: list[Any]) -> Path:
    path = drop_folder(home) / "iris" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"request_id": ["a", "b"], "label": labels}), path)
    return path


def evaluate(home: Home) -> Any:
    (sensor,) = prediction_jobs()[2]
    resources = {"serving": Serving(home=str(home.root), config_folder=str(FOLDER))}
    with (
        dg.instance_for_test() as instance,
        dg.build_sensor_context(instance=instance, resources=resources) as context,
    ):
        return sensor.evaluate_tick(context)


def test_each_complete_file_in_the_drop_folder_gets_a_run(home: Home) -> None:
    assert evaluate(home).run_requests == []
    path = drop(home, "labels.parquet", ["setosa", "virginica"])
    whole = path.read_bytes()
    path.with_name("other.parquet").write_bytes(whole[:-1])
    (request,) = evaluate(home).run_requests
    result = run(home, "label_drop", run_config=request.run_config)
    assert result.success
    assert read_labels(home, "iris", "production").num_rows == 2
    path.with_name("other.parquet").write_bytes(whole)
    (other,) = evaluate(home).run_requests
    assert other.run_key != request.run_key


def test_a_rejected_file_fails_its_run_with_the_reason(home: Home) -> None:
    drop(home, "labels.parquet", ["setosa", None])
    (request,) = evaluate(home).run_requests
    result = run(home, "label_drop", run_config=request.run_config)
    assert not result.success
    (event,) = [item for item in result.all_events if item.is_step_failure]
    assert "row 1: label is null" in str(event.event_specific_data)
