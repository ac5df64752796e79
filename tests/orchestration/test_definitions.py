import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import dagster as dg
import pytest

from serving_config.load import load

# Dagster calls partitioned checks a preview and these policies beta; ours are meant to be.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Specifying a partitions_def on an AssetCheckSpec"),
    pytest.mark.filterwarnings("ignore:Parameter .(backfill|freshness)_policy. of"),
]

CHECKOUT = Path(__file__).parents[2]
CLEAN = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)}
STEPS = ["bento", "onnx_model", "production_deployment", "registered_model", "staging_deployment"]
CHECKS = [
    "better_than_production",
    "canary_analysis",
    "conversion_parity",
    "release_health",
    "smoke_test",
]

# Reports every file that is opened and every socket while the module is imported a second time,
# when all that it imports is there.
IMPORT = """
import sys, orchestration.definitions
del sys.modules["orchestration.definitions"]
seen = []
sys.addaudithook(lambda event, args: seen.append((event, str(args[0])))
    if event in ("open", "socket.connect", "subprocess.Popen") else None)
import orchestration.definitions
print([item for item in seen if not item[1].endswith(".py") and ".pyc" not in item[1]])
"""


@pytest.fixture(scope="module")
def definitions() -> Iterator[dg.Definitions]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("SLIPWAY_")]:
            patch.delenv(name)
        from orchestration.definitions import defs

        yield defs()


@pytest.fixture(scope="module")
def models() -> list[str]:
    return sorted(load(variables={}).models)


def test_importing_the_definitions_reads_no_file_and_asks_nobody() -> None:
    found = subprocess.run(
        [sys.executable, "-c", IMPORT], env=CLEAN, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_dagster_loads_the_definitions_with_no_environment_set(tmp_path: Path) -> None:
    dagster = Path(sys.executable).parent / "dagster"
    found = subprocess.run(
        [dagster, "definitions", "validate", "-m", "orchestration.definitions"],
        env=CLEAN | {"DAGSTER_HOME": str(tmp_path), "DAGSTER_DISABLE_TELEMETRY": "1"},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert "Validation successful" in found.stderr + found.stdout


def test_every_model_has_its_assets_checks_and_jobs(
    definitions: dg.Definitions, models: list[str]
) -> None:
    graph = definitions.resolve_asset_graph()
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} >= {
        f"{model}/{step}" for model in models for step in [*STEPS, "traffic", "training"]
    }
    assert {(key.asset_key.path[0], key.name) for key in graph.asset_check_keys} >= {
        (model, check) for model in models for check in CHECKS
    }


def test_every_feature_view_and_every_model_on_features_has_its_asset(
    definitions: dg.Definitions,
) -> None:
    graph = definitions.resolve_asset_graph()
    settings = load(variables={})
    views = {f"features/{view}" for view in settings.features.views}
    audited = {f"{m.name}/feature_audit" for m in settings.models.values() if m.feature_service}
    assert views
    assert audited
    found = {key.to_user_string() for key in graph.get_all_asset_keys()}
    assert views | audited | {"features/example_sources"} <= found
    assert {key.asset_key.to_user_string() for key in graph.asset_check_keys} >= audited
    for view in views:
        assert graph.get(dg.AssetKey(view.split("/"))).partitions_def is not None


def test_the_schedules_run_without_anybody_switching_them_on(definitions: dg.Definitions) -> None:
    schedules = definitions.get_repository_def().schedule_defs
    assert len(schedules) >= 5
    assert {item.default_status for item in schedules} == {dg.DefaultScheduleStatus.RUNNING}


def test_the_assets_follow_each_other_from_the_registry_to_production(
    definitions: dg.Definitions, models: list[str]
) -> None:
    graph = definitions.resolve_asset_graph()
    way = [
        "registered_model",
        "onnx_model",
        "bento",
        "staging_deployment",
        "production_deployment",
    ]
    for model in models:
        for before, after in pairwise(way):
            parents = graph.get(dg.AssetKey([model, after])).parent_keys
            assert parents == {dg.AssetKey([model, before])}


def test_everything_in_the_ui_says_what_it_is(definitions: dg.Definitions) -> None:
    repository = definitions.get_repository_def()
    graph = definitions.resolve_asset_graph()
    described = {
        **{key.to_user_string(): graph.get(key).description for key in graph.get_all_asset_keys()},
        **{str(spec.key): spec.description for spec in _check_specs(definitions)},
        **{job.name: job.description for job in _jobs(repository)},
        **{sensor.name: sensor.description for sensor in repository.sensor_defs},
        **{schedule.name: schedule.description for schedule in repository.schedule_defs},
    }
    assert [name for name, text in described.items() if not text] == []
    assert [name for name, text in described.items() if text and "\n" in text.strip()] == []


def _check_specs(definitions: dg.Definitions) -> list[dg.AssetCheckSpec]:
    return [spec for checks in definitions.asset_checks or [] for spec in checks.check_specs]


def _jobs(repository: dg.RepositoryDefinition) -> list[dg.JobDefinition]:
    return [job for job in repository.get_all_jobs() if not job.name.startswith("__")]


def test_what_proves_a_version_blocks_what_comes_after_it(definitions: dg.Definitions) -> None:
    blocking = {spec.name for spec in _check_specs(definitions) if spec.blocking}
    assert {"better_than_production", "conversion_parity", "smoke_test"} <= blocking


def test_the_sensors_run_without_anybody_switching_them_on(definitions: dg.Definitions) -> None:
    sensors = {sensor.name: sensor for sensor in definitions.get_repository_def().sensor_defs}
    assert set(sensors) >= {
        "feature_freshness_sensor",
        "ledger_sensor",
        "promotion_sensor",
        "registry_sensor",
        "retraining_sensor",
    }
    assert {s.default_status for s in sensors.values()} == {dg.DefaultSensorStatus.RUNNING}


def test_promotion_is_a_run_of_its_own(definitions: dg.Definitions, models: list[str]) -> None:
    repository = definitions.get_repository_def()
    for model in models:
        identifier = model.replace("-", "_")
        staging = repository.get_job(f"{identifier}_to_staging").asset_layer
        production = repository.get_job(f"{identifier}_to_production").asset_layer
        for target in ("staging", "production"):
            partitions = repository.get_job(f"{identifier}_to_{target}").partitions_def
            assert partitions == dg.DynamicPartitionsDefinition(name=f"{model}_versions")
        assert {key.path[-1] for key in staging.executable_asset_keys} == (
            set(STEPS) - {"production_deployment"}
        )
        assert {key.path[-1] for key in production.executable_asset_keys} == (
            {"production_deployment"}
        )


def test_settings_elsewhere_give_other_definitions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestration.definitions import defs

    for name, text in {
        "platform.yaml": "mlflow: {tracking_uri: 'https://mlflow.example'}",
        "environments/staging.yaml": "{}",
        "environments/production.yaml": "{}",
        "models/a.yaml": "{}",
        "models/a-b.yaml": "{}",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("SLIPWAY_CONFIG", str(tmp_path))
    graph = defs().resolve_asset_graph()
    assert {key.path[0] for key in graph.get_all_asset_keys()} == {
        "a",
        "a-b",
        "labels",
        "predictions",
    }
