"""Drift and quality as Dagster runs them: a real registry, a real log, Evidently itself."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from deploy.dagster_names import WINDOW_TAG
from deploy.drift_result import read_drift_report
from deploy.events import State
from deploy.findings import read_finding
from orchestration.defs.drift.assets import monitoring_assets
from orchestration.monitoring.reference import reference_sample
from orchestration.resources.registry import Registry
from orchestration.resources.serving import Serving
from serving_config.load import FOLDER, load
from tests.deploy.releases import change, live
from tests.orchestration.monitoring.world import IRIS, World, make_world, truths

pytestmark = [
    pytest.mark.filterwarnings("ignore:Specifying a partitions_def on an AssetCheckSpec"),
    pytest.mark.usefixtures("_own_log"),
]
CONFIGURATION = load(variables={})
DRIFT, QUALITY = monitoring_assets(IRIS, CONFIGURATION)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def _own_log(world: World, tmp_path: Path) -> Iterator[None]:
    """The registry and the version are everybody's, the log is the test's own."""
    home = world.serving.home
    for name in ("predictions", "labels", "findings", "reports"):
        (tmp_path / name).mkdir()
    (tmp_path / "versions").symlink_to(Path(home) / "versions")
    world.serving = Serving(home=str(tmp_path), config_folder=str(FOLDER))
    yield
    world.serving = Serving(home=home, config_folder=str(FOLDER))


def checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {found.check_name: found.passed for found in result.get_asset_check_evaluations()}


def metadata(result: dg.ExecuteInProcessResult, node: str = "iris__drift") -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node(node)
    return {name: value.value for name, value in event.metadata.items()}


def test_traffic_like_the_training_data_passes(world: World) -> None:
    world.serve(world.rows(400))
    result = world.materialize([DRIFT], "production")
    assert result.success
    assert checks(result) == {"data_drift": True, "prediction_drift": True}
    finding = read_finding(world.serving.paths, "drift", "production", "iris")
    assert finding is not None
    assert (finding.status, finding.version, finding.failures_in_row) == ("passed", "1", 0)
    assert finding.values["share"] == 0.0
    assert {name for name in finding.values if name.startswith("column.")} == {
        f"column.{name}" for name in world.rows(1).columns
    }


def test_shifted_traffic_fails_twice_in_a_row_and_the_page_shows_it(world: World) -> None:
    world.serve(world.rows(400, shift=3.0))
    for count in (1, 2):
        result = world.materialize([DRIFT], "production")
        assert result.success
        assert checks(result)["data_drift"] is False
        finding = read_finding(world.serving.paths, "drift", "production", "iris")
        assert finding is not None
        assert finding.failures_in_row == count
    assert finding.report == "reports/drift/production/iris/latest.html"
    assert "iris in production: failed" in (world.serving.paths.root / finding.report).read_text()
    report = read_drift_report(world.serving.paths, "production", "iris")
    assert report is not None
    assert report.finding == finding
    assert report.result.share == 1.0
    shown = metadata(result)
    assert shown["verdict"] == "failed"
    assert shown["report"].endswith("/v1/drift/iris/report?environment=production")
    assert shown["plot"].startswith("![scores of the columns](data:image/svg+xml;base64,")
    snapshots = (world.serving.paths.reports / "workspace").glob("*/snapshots/*.json")
    assert len(list(snapshots)) == 2


@pytest.mark.parametrize("rows", [0, 199])
def test_with_too_few_answers_no_check_says_anything(rows: int, world: World) -> None:
    if rows:
        world.serve(world.rows(rows, shift=3.0))
    result = world.materialize([DRIFT], "production")
    assert result.success
    assert checks(result) == {}
    assert metadata(result)["verdict"] == "not enough data"
    finding = read_finding(world.serving.paths, "drift", "production", "iris")
    assert finding is not None
    assert finding.status == "not_enough_data"
    assert "share" not in finding.values


def test_only_the_last_window_of_clients_answered_requests_counts(world: World) -> None:
    world.serve(world.rows(300))
    world.serve(world.rows(500, shift=3.0), hours_ago=2)
    world.serve(world.rows(500, shift=3.0), environment="staging")
    world.serve(world.rows(500, shift=3.0), source=["mirror"] * 500)
    refused: dict[str, Any] = {
        "status": [422] * 500,
        "features": [[None] * 500] * 4,
        "prediction": [None] * 500,
        "probabilities": [[None] * 500] * 3,
    }
    world.serve(world.rows(500), **refused)
    assert metadata(world.materialize([DRIFT], "production"))["rows"] == 300
    wider = world.materialize([DRIFT], "production", **{WINDOW_TAG: "3"})
    assert metadata(wider)["rows"] == 800
    assert checks(wider)["data_drift"] is False


def test_the_version_that_served_most_is_compared_and_the_others_are_named(world: World) -> None:
    world.serve(world.rows(400))
    world.serve(world.rows(100, shift=3.0), label="2")
    result = world.materialize([DRIFT], "production")
    assert checks(result)["data_drift"] is True
    assert metadata(result)["rows"] == 400
    report = read_drift_report(world.serving.paths, "production", "iris")
    assert report is not None
    assert report.others == {"2": 100}


def test_of_a_version_that_left_nothing_is_held_against_the_one_that_serves(world: World) -> None:
    world.serve(world.rows(400, shift=3.0), label="2")
    world.serve(world.rows(250))
    with world.serving.open_ledger() as ledger:
        ledger.record(change(State("production", "iris"), live(1)))
    result = world.materialize([DRIFT], "production")
    assert checks(result)["data_drift"] is True
    assert metadata(result)["rows"] == 250
    with world.serving.open_ledger() as ledger:
        ledger.record(change(ledger.state("production", "iris"), live(3)))
    result = world.materialize([DRIFT], "production")
    assert checks(result) == {}
    assert "version 3, which serves, has no answers" in metadata(result)["reason"]


def test_a_version_whose_run_left_no_reference_has_no_verdict(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "orchestration.monitoring.reference.REFERENCE_ARTIFACT", "reference/elsewhere.parquet"
    )
    monkeypatch.setattr("orchestration.monitoring.reference._read", lambda *_: None)
    world.serve(world.rows(400, shift=3.0))
    result = world.materialize([DRIFT], "production")
    assert result.success
    assert checks(result) == {}
    assert "left no reference" in metadata(result)["reason"]


def test_the_reference_is_kept_and_made_anew_where_it_was_damaged(world: World) -> None:
    folder = world.folder
    first = reference_sample(world.registry, "iris", folder)
    assert first is not None
    assert set(first.predictions) == {"setosa", "versicolor", "virginica"}
    file = folder.path / "reference.parquet"
    file.write_bytes(file.read_bytes()[:-10] + b"0123456789")
    again = reference_sample(world.registry, "iris", folder)
    assert again is not None
    assert again.features.equals(first.features)
    gone = Registry(tracking_uri="sqlite:////nowhere/mlflow.db")
    kept = reference_sample(gone, "iris", folder)
    assert kept is not None
    assert kept.predictions.equals(first.predictions)


def test_training_rows_that_the_version_refuses_are_no_reference(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = world.rows(200)
    rows.iloc[:40, 0] = float("nan")
    monkeypatch.setattr("orchestration.monitoring.reference.run_reference", lambda *_: rows)
    monkeypatch.setattr("orchestration.monitoring.reference._read", lambda *_: None)
    monkeypatch.setattr("orchestration.monitoring.reference._write", lambda *_: None)
    found = reference_sample(world.registry, "iris", world.folder)
    assert found is not None
    assert len(found.features) == len(found.predictions) == 160
    world.serve(world.rows(400))
    result = world.materialize([DRIFT], "production")
    assert checks(result) == {"data_drift": True, "prediction_drift": True}


def test_an_hour_without_traffic_leaves_the_count_of_failures_as_it_was(world: World) -> None:
    world.serve(world.rows(400, shift=3.0))
    with world.serving.open_ledger() as ledger:
        ledger.record(change(State("production", "iris"), live(1)))
    world.materialize([DRIFT], "production")
    for log in world.serving.paths.predictions.rglob("*.seg"):
        log.unlink()
    world.materialize([DRIFT], "production")
    finding = read_finding(world.serving.paths, "drift", "production", "iris")
    assert finding is not None
    assert (finding.status, finding.failures_in_row) == ("not_enough_data", 1)


def test_live_quality_counts_labels_and_fails_below_its_limit(world: World) -> None:
    rows = world.rows(300)
    ids = world.serve(rows)
    limit = IRIS.quality.model_copy(update={"limit": 0.9, "slices": (rows.columns[0],)})
    model = IRIS.model_copy(update={"quality": limit})
    models = CONFIGURATION.models | {"iris": model}
    configuration = CONFIGURATION.model_copy(update={"models": models})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestration.resources.serving.load", lambda _folder: configuration)
        world.label([*ids[:200], "nobody"], [*truths(world, rows[:200]), "setosa"])
        result = world.materialize([QUALITY], "production")
        assert checks(result) == {"live_quality": True}
        shown = metadata(result, "iris__quality")
        assert (shown["labelled_answers"], shown["accuracy"]) == (200, 1.0)
        assert shown["calibration_plot"].startswith("![calibration](data:image/svg")
        assert "1 labels are of answers that the log does not have" in str(shown["notes"])
        world.label(ids, truths(world, rows, wrong=0.5))
        result = world.materialize([QUALITY], "production")
    assert checks(result) == {"live_quality": False}
    finding = read_finding(world.serving.paths, "quality", "production", "iris")
    assert finding is not None
    assert finding.status == "failed"
    assert 0.3 < finding.values["accuracy"] < 0.7
    assert datetime.fromisoformat(finding.at) <= datetime.now(UTC)


def test_without_enough_labels_quality_says_nothing(world: World) -> None:
    world.serve(world.rows(300))
    result = world.materialize([QUALITY], "production")
    assert result.success
    assert checks(result) == {}
    assert metadata(result, "iris__quality")["verdict"] == "not enough data"
