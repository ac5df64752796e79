"""The sensor as a plain call: real findings, prediction log, registry and Dagster instance."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from deploy.dagster_names import ACTOR_TAG, FINDING_TAG, REASON_TAG
from deploy.findings import KIND, Finding, key_of, write_finding
from deploy.home import Home
from deploy.shared_state import shared_state
from orchestration.defs.retraining.sensor import retraining_sensors
from orchestration.defs.retraining.training import training_assets, training_jobs
from orchestration.features.windows import rfc3339
from orchestration.resources.registry import Registry
from orchestration.resources.serving import Serving
from serving_config.load import load
from serving_config.schema import Configuration
from tests.orchestration.retraining.conftest import HOUR, answered, labelled

Tick = Callable[[], dg.SensorResult | dg.SkipReason]


@pytest.fixture
def tick(
    configuration: Configuration,
    instance: dg.DagsterInstance,
    registry: Registry,
    serving: Serving,
) -> Tick:
    (sensor,) = retraining_sensors(configuration, training_jobs(configuration))

    def call() -> Any:
        context = dg.build_sensor_context(instance=instance)
        return sensor(context, registry=registry, serving=serving)

    return call


def fail(home: Home, times: int = 2) -> None:
    for _ in range(times):
        write_finding(
            home,
            Finding(
                kind="drift",
                environment="production",
                subject="iris",
                status="failed",
                at=rfc3339(datetime.now(UTC)),
                summary="3 of 4 columns drifted",
            ),
        )


def skipped(result: Any) -> str:
    assert isinstance(result, dg.SkipReason)
    return str(result.skip_message)


def test_a_check_that_failed_twice_starts_one_training(tick: Tick, home: Home) -> None:
    now = datetime.now(UTC)
    labelled(home, answered(home, now - 2 * HOUR), now - HOUR)
    fail(home)
    first, again = tick(), tick()
    assert isinstance(first, dg.SensorResult)
    assert isinstance(again, dg.SensorResult)
    (request,), (same,) = first.run_requests or (), again.run_requests or ()
    assert request.job_name == "iris_training"
    assert request.run_key == same.run_key  # Dagster starts a run key once
    assert request.tags[ACTOR_TAG] == "retraining_sensor"
    assert request.tags[REASON_TAG] == (
        "drift failed 2 times in a row in production: 3 of 4 columns drifted"
    )
    assert request.tags[FINDING_TAG].startswith("drift production 20")


def test_one_failure_is_not_enough(tick: Tick, home: Home) -> None:
    fail(home, times=1)
    assert skipped(tick()) == "iris: neither has failed 2 times in a row: drift, quality"


def test_without_labels_it_waits_for_them(tick: Tick, home: Home) -> None:
    answered(home, datetime.now(UTC) - HOUR)
    fail(home)
    assert skipped(tick()).startswith("iris: 0 labelled answers since the last training, 20 are")


def test_a_training_that_failed_starts_the_cool_down_too(
    tick: Tick,
    home: Home,
    folder: Path,
    instance: dg.DagsterInstance,
    registry: Registry,
    serving: Serving,
) -> None:
    now = datetime.now(UTC)
    labelled(home, answered(home, now - 2 * HOUR), now - HOUR)
    fail(home)
    assert isinstance(tick(), dg.SensorResult)
    (folder / "models" / "iris.yaml").write_text("training: nowhere:train\n")
    broken = load(folder, {})
    job = dg.Definitions(
        training_assets(broken),
        jobs=list(training_jobs(broken).values()),
        resources={"registry": registry, "serving": serving},
    ).resolve_job_def("iris_training")
    assert not job.execute_in_process(instance=instance, raise_on_error=False).success
    assert skipped(tick()).startswith("iris: last trained at 20")


def test_a_damaged_finding_asks_for_nothing_and_is_named(tick: Tick, home: Home) -> None:
    key = key_of("drift", "production", "iris")
    shared_state(home).write(KIND, key, b"{")
    assert key in skipped(tick())


def test_no_model_with_retraining_no_sensor(folder: Path) -> None:
    (folder / "models" / "iris.yaml").write_text("{}")
    assert retraining_sensors(load(folder, {}), {}) == []
