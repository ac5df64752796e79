"""Pods of Dagster's runs, and what starts them, before any of Dagster's own code sees them."""

import pytest
import yaml

from deploy.dagster_helm import FOLDER, VARIABLES, files, helm_values
from deploy.dagster_yaml import dagster_yaml
from deploy.manifests import dagster as pods
from serving_config.load import load
from serving_config.schema import Configuration

SECRET = "postgresql://me:hunter2@db/dagster"  # noqa: S105


@pytest.fixture(scope="module")
def on_cluster() -> Configuration:
    return load(variables=VARIABLES)


def test_one_machine_and_a_cluster_share_all_but_where_runs_and_storage_are(
    on_cluster: Configuration,
) -> None:
    here = yaml.safe_load(dagster_yaml(load(variables={}), {}))
    there = yaml.safe_load(dagster_yaml(on_cluster, {}))
    for key in ("concurrency", "run_coordinator", "run_retries", "sensors", "retention"):
        assert here[key] == there[key]
    assert there.keys() - here.keys() == {"storage", "run_launcher", "compute_logs"}
    monitoring = there["run_monitoring"]
    assert monitoring["max_runtime_seconds"] == here["run_monitoring"]["max_runtime_seconds"]
    # Else a dead run were resumed by pieces, and started once more.
    assert monitoring["max_resume_run_attempts"] == 0


def test_neither_the_file_nor_a_pod_holds_a_password() -> None:
    secrets = dict.fromkeys((*pods.OF_RUN, "SLIPWAY_MLFLOW_BACKEND_URL"), SECRET)
    settings = load(variables=VARIABLES | {pods.STORAGE_VARIABLE: SECRET})
    text = dagster_yaml(settings, secrets)
    assert "hunter2" not in text
    assert yaml.safe_load(text)["storage"] == {
        "postgres": {"postgres_url": {"env": "SLIPWAY_DAGSTER_STORAGE_URL"}}
    }
    assert not set(pods.INHERITED) & set(pods.OF_RUN)


def test_what_reads_trained_models_cannot_reach_dagster_and_has_no_token(
    on_cluster: Configuration,
) -> None:
    for keys in (pods.OF_STEP, pods.OF_BATCH):
        assert pods.STORAGE_VARIABLE not in keys
    assert "SLIPWAY_LEDGER_URL" not in pods.OF_STEP
    assert pods.pod(on_cluster, pods.PLAIN)["automountServiceAccountToken"] is False


def test_a_pod_has_the_very_settings_it_is_started_with(on_cluster: Configuration) -> None:
    (volume,) = [v for v in pods.pod(on_cluster, pods.PLAIN)["volumes"] if v["name"] == "settings"]
    paths = {
        item["path"]
        for source in volume["projected"]["sources"]
        for item in source["configMap"]["items"]
    }
    assert {"platform.yaml", "features.yaml", "environments/production.yaml"} <= paths
    assert {f"models/{name}.yaml" for name in on_cluster.models} <= paths
    variables = {"SLIPWAY_TARGET": "kserve", "SLIPWAY_HOME": "/elsewhere", "OTHER": "x"}
    settings = on_cluster.platform.kubernetes.dagster.steps.other
    env = {item["name"]: item["value"] for item in pods.container((), settings, variables)["env"]}
    assert env["SLIPWAY_TARGET"] == "kserve"
    assert env["SLIPWAY_HOME"] == pods.HOME
    assert "OTHER" not in env


def test_the_written_files_are_those_of_the_settings(on_cluster: Configuration) -> None:
    found = {path.name: path.read_text() for path in FOLDER.glob("*.yaml")}
    assert found == files(on_cluster), "run python -m deploy.dagster_helm"


def test_the_charts_values_are_the_same_instance(on_cluster: Configuration) -> None:
    values = helm_values(on_cluster)
    instance = yaml.safe_load(dagster_yaml(on_cluster, VARIABLES))
    launcher = values["runLauncher"]["config"]["customRunLauncher"]
    assert launcher["config"].pop("postgres_password_secret")
    assert launcher == instance["run_launcher"]
    coordinator = values["dagsterDaemon"]["runCoordinator"]["config"]["customRunCoordinator"]
    assert coordinator == instance["run_coordinator"]
    rest = values["additionalInstanceConfig"]
    assert rest == {key: instance[key] for key in rest}
    assert {"concurrency", "run_monitoring", "run_retries", "sensors", "retention"} <= rest.keys()
    # What the chart would write itself must not stand there twice.
    daemon = values["dagsterDaemon"]
    assert not daemon["runMonitoring"]["enabled"]
    assert not daemon["runRetries"]["enabled"]
    assert not values["retention"]["enabled"]
