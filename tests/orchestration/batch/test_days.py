"""`<model>/batch_predictions` as Dagster runs it, on a version that was really built."""

from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow.dataset as ds
import pytest

from deploy.home import Home
from orchestration.batch import drop as dropping
from orchestration.batch.drop import drop_folder, input_folder
from orchestration.defs.batch.assets import batch_assets
from orchestration.defs.batch.jobs import batch_jobs
from orchestration.defs.batch.names import batch_key
from orchestration.resources.registry import Registry
from orchestration.steps.base import InProcess, Steps
from serving_config.load import load
from tests.orchestration.monitoring.world import World
from tests.orchestration.steps.running import InSubprocess

DAY = "2026-11-20"
CONFIGURATION = load(variables={})


def run(
    world: World,
    config: dict[str, Any] | None = None,
    job: Any = None,
    day: str | None = DAY,
    steps: Steps | None = None,
) -> dg.ExecuteInProcessResult:
    job = job or batch_jobs(CONFIGURATION)["iris"]
    definitions = dg.Definitions(
        assets=batch_assets(CONFIGURATION),
        jobs=[job],
        resources={
            "registry": world.registry,
            "serving": world.serving,
            "steps": steps or InProcess(),
        },
    )
    with dg.instance_for_test() as instance:
        return definitions.resolve_job_def(job.name).execute_in_process(
            instance=instance,
            partition_key=day,
            run_config={"ops": {"iris__batch_predictions": {"config": config or {}}}},
            raise_on_error=False,
        )


def put(home: Home, rows: pd.DataFrame, name: str = "a.parquet") -> Path:
    folder = input_folder(home, "iris", DAY)
    folder.mkdir(parents=True, exist_ok=True)
    if name.endswith(".csv"):
        rows.to_csv(folder / name, index=False)
    else:
        rows.to_parquet(folder / name, index=False)
    return folder / name


def flowers(world: World, count: int, shift: float = 0.0) -> pd.DataFrame:
    rows = world.rows(count, shift)
    rows.insert(0, "flower", range(count))
    return rows


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node("iris__batch_predictions")
    return {name: value.value for name, value in event.metadata.items()}


def checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {found.check_name: found.passed for found in result.get_asset_check_evaluations()}


def failure(result: dg.ExecuteInProcessResult) -> str:
    (event,) = [item for item in result.all_events if item.is_step_failure]
    data = event.step_failure_data.user_failure_data
    assert data is not None
    return str(data.description)


def scored(home: Home, folder: str = "predictions") -> Any:
    return ds.dataset(home.batch / "iris" / folder / f"day={DAY}", format="parquet").to_table()


def test_a_day_is_scored_and_shown(world: World, home: Home) -> None:
    rows = flowers(world, 400)
    rows.loc[[3, 5], "petal_width"] = None
    put(home, rows)
    result = run(world)
    assert result.success
    assert checks(result) == {"batch_drift": True}
    found = metadata(result)
    assert (found["rows_in"], found["dagster/row_count"], found["rejects"]) == (400, 398, 2)
    assert found["rows_per_second"] > 0
    assert found["model_version"] == "1"
    assert found["manifest"].endswith(f"/predictions/day={DAY}/_manifest.json")
    assert Path(found["manifest"]).is_file()
    assert found["plot"].startswith("![predictions](data:image/svg+xml;base64,")
    (reason,) = found["reasons"].records
    assert reason.data["rows"] == "2"
    assert reason.data["reason"].startswith("petal_width")
    assert set(scored(home)["flower"].to_pylist()) == set(range(400)) - {3, 5}


def test_flowers_unlike_the_training_data_fail_the_check_and_are_scored(
    world: World, home: Home
) -> None:
    put(home, flowers(world, 400, shift=3.0))
    result = run(world)
    assert result.success
    assert checks(result) == {"batch_drift": False}
    assert scored(home).num_rows == 400
    (evaluation,) = result.get_asset_check_evaluations()
    assert "columns have drifted" in str(evaluation.description)
    assert evaluation.metadata["rows"].value == 400
    assert "plot" in evaluation.metadata


@pytest.mark.parametrize(("shift", "passed"), [(0.0, True), (3.0, False)])
def test_a_csv_is_held_against_the_reference_as_numbers(
    world: World, home: Home, shift: float, passed: bool
) -> None:
    put(home, flowers(world, 400, shift), "a.csv")
    assert checks(run(world)) == {"batch_drift": passed}


def test_of_a_large_input_a_sample_is_compared(
    world: World, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestration.monitoring.batch_input.MAX_ROWS", 300)
    put(home, flowers(world, 2000))
    (evaluation,) = run(world).get_asset_check_evaluations()
    assert 240 <= int(str(evaluation.metadata["rows"].value)) <= 360
    assert evaluation.passed


def test_of_few_rows_the_check_says_nothing(world: World, home: Home) -> None:
    put(home, flowers(world, 30, shift=3.0))
    result = run(world)
    assert result.success
    assert checks(result) == {}


def unchecked(result: dg.ExecuteInProcessResult) -> str:
    """What the check says that could not be made, of a day that is scored all the same."""
    assert result.success
    assert metadata(result)["rows_in"] == 400
    (evaluation,) = result.get_asset_check_evaluations()
    assert not evaluation.passed
    assert evaluation.severity == dg.AssetCheckSeverity.WARN
    said = str(evaluation.description)
    assert said.startswith("could not be checked: ")
    assert "\n" not in said
    return said


def test_a_registry_that_is_away_fails_the_check_and_not_the_day(
    world: World, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestration.monitoring.reference._read", lambda *_: None)
    away = Registry(tracking_uri=f"sqlite:///{home.root}/mlflow.db")
    put(home, flowers(world, 400))
    assert "MLflow" in unchecked(run(World(world.serving, away)))
    assert scored(home).num_rows == 400


def test_a_defect_of_the_check_fails_the_check_and_not_the_day(
    world: World, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr("orchestration.monitoring.batch_input.batch_drift", broken)
    put(home, flowers(world, 400))
    assert unchecked(run(world)).endswith(": ZeroDivisionError: division by zero")


def test_the_check_without_its_day_says_what_to_run(world: World, home: Home) -> None:
    chosen = dg.AssetSelection.checks_for_assets(batch_key("iris"))
    job = dg.define_asset_job("only_the_check", selection=chosen)  # as its button in the UI does
    assert "materialize the day" in failure(run(world, job=job, day=None))
    assert not (home.batch / "iris" / "predictions").exists()


def test_a_day_that_was_scored_is_scored_again_unless_told_not_to(world: World, home: Home) -> None:
    put(home, flowers(world, 40))
    assert run(world).success
    put(home, flowers(world, 50))
    assert "is there already" in failure(run(world, {"overwrite": False}))
    assert scored(home).num_rows == 40
    assert run(world).success
    assert scored(home).num_rows == 50


def test_a_day_without_a_file_fails_with_one_sentence(world: World, home: Home) -> None:
    said = failure(run(world))
    assert DAY in said
    assert "\n" not in said
    assert not (home.batch / "iris" / "predictions").exists()


def test_dropped_files_are_moved_and_scored_with_those_of_before(
    world: World, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dropping, "SETTLED_SECONDS", 0.0)
    drop_folder(home, "iris").mkdir(parents=True)
    half = drop_folder(home, "iris") / "half.parquet"
    for count in (1, 2, 3):
        rows = flowers(world, 100).assign(flower=range(1000 * count, 1000 * count + 100))
        rows.to_parquet(drop_folder(home, "iris") / "a.parquet", index=False)
        half.write_bytes(b"PAR1 rows")
        assert run(world, {"dropped": True}).success
        assert scored(home).num_rows == 100 * count
        assert list(drop_folder(home, "iris").iterdir()) == [half]
    assert scored(home)["flower"].unique().sort().to_pylist()[::100] == [1000, 2000, 3000]


@pytest.mark.filterwarnings("ignore:.*expected_writer_count")
def test_a_day_may_be_scored_by_a_process_of_its_own(
    world: World, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_HOME", str(home.root))
    put(home, flowers(world, 40))
    here = metadata(run(world))
    there = metadata(run(world, steps=InSubprocess()))
    for name in ("rows_in", "dagster/row_count", "rejects", "onnx_sha256", "output", "plot"):
        assert there[name] == here[name]
    assert here["dagster/row_count"] == 40


@pytest.mark.filterwarnings("ignore:.*expected_writer_count")
def test_a_day_without_a_table_is_the_same_sentence_from_there(
    world: World, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_HOME", str(home.root))
    assert failure(run(world, steps=InSubprocess())) == failure(run(world))
