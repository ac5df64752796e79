"""The assets, schedules and the sensor in Dagster; what writes the values is a list here."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from deploy.dagster_names import ACTOR_TAG
from deploy.findings import read_finding
from deploy.home import Home
from orchestration.defs.features import assets
from orchestration.defs.features.assets import feature_assets
from orchestration.defs.features.jobs import feature_jobs, feature_schedules
from orchestration.defs.features.names import view_key
from orchestration.defs.features.sensors import feature_sensors
from orchestration.features.watermarks import (
    Watermark,
    definition_of,
    read_watermark,
    write_watermark,
)
from orchestration.features.windows import BEGINNING, last_key, last_window, window_key
from orchestration.resources.serving import Serving
from serving_config.load import load
from serving_config.schema import Configuration
from tests.orchestration.features.homes import PROFILE, home_with

# Dagster calls them beta.
pytestmark = pytest.mark.filterwarnings("ignore:Parameter .(backfill|freshness)_policy. of")

Spans = list[tuple[datetime, datetime]]
HOUR = timedelta(hours=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {
        "platform.yaml": "{}",
        "features.yaml": "views: {profile: {every: hour, fresh_within_hours: 3}}",
        "environments/staging.yaml": "{}",
        "environments/production.yaml": "{}",
        "models/churn.yaml": "feature_service: churn",
    }.items():
        path = tmp_path / "serving_config" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "serving_config"


@pytest.fixture
def configuration(folder: Path) -> Configuration:
    return load(folder, {})


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return home_with(tmp_path / "h")


@pytest.fixture
def serving(home: Home, folder: Path) -> Serving:
    return Serving(home=str(home.root), config_folder=str(folder))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    found: Spans = []

    def writer(*_: object) -> Any:
        return lambda name, start, end: found.append((start, end)) or {"rows": 7}

    monkeypatch.setattr(assets, "into_online_store", writer)
    return found


@pytest.fixture
def run(configuration: Configuration, serving: Serving, instance: dg.DagsterInstance) -> Any:
    def materialize(key: str, config: dict[str, str] | None = None, **more: Any) -> Any:
        return dg.materialize(
            feature_assets(configuration),
            partition_key=key or None,
            instance=instance,
            resources={"serving": serving},
            run_config={"ops": {"features__profile": {"config": config or {}}}},
            **more,
        )

    return materialize


def mark(home: Home, until: datetime) -> None:
    definition = definition_of(PROFILE, "feature_store.yaml")
    write_watermark(home, "profile", Watermark(until=until, at=until, definition=definition))


def until(home: Home) -> datetime | None:
    found = read_watermark(home, PROFILE, "feature_store.yaml")
    return found.until if found else None


def test_windows_that_were_missed_are_partitions_of_the_run_that_caught_them_up(
    run: Any, home: Home, spans: Spans, instance: dg.DagsterInstance
) -> None:
    start, end = last_window("hour", datetime.now(UTC))
    mark(home, start - 3 * HOUR)
    result = run(window_key("hour", start))
    assert result.success
    assert spans == [(start - 3 * HOUR, end)]
    keys = {window_key("hour", start - i * HOUR) for i in range(4)}
    assert instance.get_materialized_partitions(view_key("profile")) == keys
    (latest,) = [
        event
        for event in result.asset_materializations_for_node("features__profile")
        if event.partition == window_key("hour", start)
    ]
    assert latest.metadata["windows_caught_up"].value == 3
    assert latest.metadata["rows"].value == 7
    assert until(home) == end


def test_the_first_run_takes_all_that_there_is(
    run: Any, spans: Spans, instance: dg.DagsterInstance
) -> None:
    start, end = last_window("hour", datetime.now(UTC))
    assert run(window_key("hour", start)).success
    assert spans == [(BEGINNING, end)]
    assert len(instance.get_materialized_partitions(view_key("profile"))) >= 48


def test_a_run_that_fails_reports_no_window_and_leaves_the_watermark(
    run: Any, home: Home, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def writer(*_: object) -> Any:
        def write(*_: object) -> int:
            raise OSError(2, "No such file or directory", "sources/profile")

        return write

    monkeypatch.setattr(assets, "into_online_store", writer)
    start, _ = last_window("hour", datetime.now(UTC))
    mark(home, start - HOUR)
    result = run(window_key("hour", start), raise_on_error=False)
    assert not result.success
    assert until(home) == start - HOUR
    assert instance.get_materialized_partitions(view_key("profile")) == set()


def test_a_backfill_is_one_run_from_its_first_window_to_its_last(
    run: Any, home: Home, spans: Spans, instance: dg.DagsterInstance
) -> None:
    start, end = last_window("hour", datetime.now(UTC))
    mark(home, end)
    tags = {
        "dagster/asset_partition_range_start": window_key("hour", start - 5 * HOUR),
        "dagster/asset_partition_range_end": window_key("hour", start - 2 * HOUR),
    }
    assert run("", tags=tags).success
    assert spans == [(start - 5 * HOUR, start - HOUR)]
    assert len(instance.get_materialized_partitions(view_key("profile"))) == 4
    assert until(home) == end


def test_a_span_by_hand_is_done_instead_of_the_window(run: Any, home: Home, spans: Spans) -> None:
    start, end = last_window("hour", datetime.now(UTC))
    mark(home, end)
    config = {"since": "2025-01-01T00:00:00Z", "until": "2025-01-02T00:00:00Z"}
    assert run(window_key("hour", start), config).success
    assert spans == [(datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 1, 2, tzinfo=UTC))]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"since": "yesterday"}, "is no time"),
        ({"since": "2025-01-01T00:00:00"}, "has no time zone"),
        ({"since": "2025-01-02T00:00:00Z", "until": "2025-01-01T00:00:00Z"}, "nothing lies"),
        ({"until": "2999-01-01T00:00:00Z"}, "is not over"),
    ],
)
def test_a_span_that_is_none_is_refused(
    run: Any, spans: Spans, config: dict[str, str], said: str
) -> None:
    key = last_key("hour", datetime.now(UTC))
    with pytest.raises(dg.Failure, match=said):
        run(key, config)
    assert spans == []


def test_a_schedule_asks_for_the_window_that_is_over_unless_it_is_done(
    configuration: Configuration, serving: Serving, home: Home
) -> None:
    (schedule,) = feature_schedules(configuration, feature_jobs(configuration))
    tick = datetime(2025, 11, 20, 10, 5, tzinfo=UTC)
    context = dg.build_schedule_context(scheduled_execution_time=tick)
    request = schedule(context, serving=serving)
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == "2025-11-20-09:00"
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    mark(home, tick.replace(minute=0))
    assert isinstance(schedule(context, serving=serving), dg.SkipReason)


def test_the_sensor_starts_a_new_view_once_and_says_when_one_is_stale(
    configuration: Configuration, serving: Serving, home: Home, instance: dg.DagsterInstance
) -> None:
    (sensor,) = feature_sensors(configuration, feature_jobs(configuration))

    def tick() -> list[dg.RunRequest]:
        result: Any = sensor(dg.build_sensor_context(instance=instance), serving=serving)
        return [] if isinstance(result, dg.SkipReason) else list(result.run_requests)

    (request,), (again,) = tick(), tick()
    assert request.job_name == "materialize_profile"
    assert request.run_key == again.run_key
    assert request.tags[ACTOR_TAG] == "feature_freshness_sensor"
    assert read_finding(home, "features", "", "profile") is None
    an_hour_ago = time.time() - 3600
    os.utime(home.features / "description.json", (an_hour_ago, an_hour_ago))
    tick()
    found = read_finding(home, "features", "", "profile")
    assert found is not None
    assert (found.status, found.failures_in_row) == ("failed", 1)
    for age, status in ((1, "passed"), (4, "failed")):
        mark(home, datetime.now(UTC) - age * HOUR)
        assert tick() == []
        found = read_finding(home, "features", "", "profile")
        assert found is not None
        assert found.status == status
    assert "4.0 h ago (at most 3 h are allowed)" in found.summary


def test_no_views_no_assets_and_no_sensor(folder: Path) -> None:
    (folder / "features.yaml").unlink()
    configuration = load(folder, {})
    assert feature_assets(configuration) == []
    assert feature_sensors(configuration, feature_jobs(configuration)) == []
