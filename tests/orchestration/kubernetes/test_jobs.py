"""The Jobs that Dagster's launcher and executor ask a cluster for, as they reach its API server."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
import yaml

from deploy.dagster_yaml import instance
from serving_config.load import FOLDER, load
from tests.deploy.postgres_server import PASSWORD, PostgresServer, postgres_server
from tests.orchestration.kubernetes.api_server import ApiServer, api_server
from tests.orchestration.kubernetes.schemas import require_restricted, validate

pytestmark = [
    pytest.mark.filterwarnings("ignore:Specifying a partitions_def on an AssetCheckSpec"),
    pytest.mark.filterwarnings("ignore:Parameter .(backfill|freshness)_policy. of"),
]
ON_CLUSTER = {"SLIPWAY_DAGSTER_RUNS": "kubernetes", "SLIPWAY_TARGET": "kubernetes"}
IMAGE = "registry.example/slipway:7"


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped settings, with more memory for one step and a secret for the image."""
    folder = tmp_path_factory.mktemp("settings")
    for path in FOLDER.rglob("*.yaml"):
        (folder / path.relative_to(FOLDER)).parent.mkdir(exist_ok=True)
        (folder / path.relative_to(FOLDER)).write_text(path.read_text())
    with (folder / "platform.yaml").open("a") as file:
        file.write(
            "kubernetes:\n  namespace: mine\n  image_pull_secret: registry\n  dagster:\n"
            f"    image: {IMAGE}\n    scratch: 3Gi\n"
            "    steps: {bento: {cpu: 700m, memory: 3Gi, memory_limit: 5Gi, cpu_limit: '2'}}\n"
        )
    return folder


@pytest.fixture(scope="module")
def repository(settings: Path) -> Iterator[dg.RepositoryDefinition]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("SLIPWAY_")]:
            patch.delenv(name)
        for name, value in (ON_CLUSTER | {"SLIPWAY_CONFIG": str(settings)}).items():
            patch.setenv(name, value)
        from orchestration.definitions import defs

        yield defs().get_repository_def()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ApiServer]:
    with api_server(tmp_path) as server:
        yield server


@pytest.fixture
def dagster(
    tmp_path: Path,
    settings: Path,
    postgres: PostgresServer,
    cluster: ApiServer,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[dg.DagsterInstance]:
    """The instance of the shipped `dagster.yaml`, on a real PostgreSQL. Only the credentials for
    the cluster are others than a pod has."""
    url = postgres.url(postgres.create_database()).replace("+psycopg:", "+psycopg2:")
    monkeypatch.setenv("SLIPWAY_DAGSTER_STORAGE_URL", url)
    variables = ON_CLUSTER | {"SLIPWAY_DAGSTER_STORAGE_URL": url}
    found = instance(load(settings, variables), variables)
    launcher = found["run_launcher"]["config"]
    assert launcher["load_incluster_config"] is True
    launcher |= {"load_incluster_config": False, "kubeconfig_file": str(cluster.kubeconfig())}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(found))
    with dg.DagsterInstance.from_config(str(tmp_path)) as opened:
        yield opened


def run_of(dagster: dg.DagsterInstance, job: dg.JobDefinition) -> dg.DagsterRun:
    from dagster._core.code_pointer import ModuleCodePointer
    from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin

    pointer = ModuleCodePointer("orchestration.definitions", "defs", None)
    location = RepositoryPythonOrigin(
        executable_path=sys.executable, code_pointer=pointer, entry_point=["dagster"]
    )
    run = dg.DagsterRun(
        job_name=job.name,
        run_id="11111111-2222-3333-4444-555555555555",
        tags=job.run_tags,
        job_code_origin=JobPythonOrigin(job.name, location),
    )
    dagster.add_run(run)
    return run


def launched(dagster: dg.DagsterInstance, cluster: ApiServer, job: dg.JobDefinition) -> Any:
    """The run's Job."""
    from dagster._core.launcher import LaunchRunContext

    run = run_of(dagster, job)
    dagster.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    (found,) = cluster.jobs
    return found


def test_a_run_is_a_restricted_job_that_may_start_pods(
    dagster: dg.DagsterInstance, cluster: ApiServer, repository: dg.RepositoryDefinition
) -> None:
    job = launched(dagster, cluster, repository.get_job("iris_to_staging"))
    validate(without_server_fields(job))
    pod = job["spec"]["template"]["spec"]
    require_restricted(pod)
    (container,) = pod["containers"]
    assert container["image"] == IMAGE
    assert container["command"] == ["python", "-m", "deploy.pod_process"]
    assert container["args"][:3] == ["dagster", "api", "execute_run"]
    assert container["resources"]["requests"] == {"cpu": "100m", "memory": "768Mi"}
    assert pod["serviceAccountName"] == "slipway-deployer"
    assert pod["automountServiceAccountToken"] is True
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert has_keys(pod)
    assert job["spec"]["backoffLimit"] == 0
    assert {v["emptyDir"]["sizeLimit"] for v in pod["volumes"] if "emptyDir" in v} == {"3Gi"}


def test_no_password_reaches_the_cluster(
    dagster: dg.DagsterInstance, cluster: ApiServer, repository: dg.RepositoryDefinition
) -> None:
    job = launched(dagster, cluster, repository.get_job("iris_to_staging"))
    text = json.dumps(job)
    assert PASSWORD not in text
    assert "p%40ss" not in text
    (container,) = job["spec"]["template"]["spec"]["containers"]
    env = {item["name"]: item for item in container["env"]}
    reference = {"name": "slipway", "key": "SLIPWAY_DAGSTER_STORAGE_URL"}
    assert env["SLIPWAY_DAGSTER_STORAGE_URL"]["valueFrom"]["secretKeyRef"] == reference
    assert env["SLIPWAY_TARGET"]["value"] == "kubernetes"


def test_a_run_that_executes_a_users_training_has_no_rights_on_the_cluster(
    dagster: dg.DagsterInstance, cluster: ApiServer, repository: dg.RepositoryDefinition
) -> None:
    job = launched(dagster, cluster, repository.get_job("iris_training"))
    pod = job["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "slipway-plain"
    assert pod["automountServiceAccountToken"] is False
    assert not has_keys(pod)
    assert pod["containers"][0]["resources"]["requests"] == {"cpu": "1", "memory": "2Gi"}


@pytest.mark.parametrize(
    ("step", "requests", "limits", "account"),
    [
        ("registered_model", ("250m", "1Gi"), {"memory": "3Gi"}, "slipway-plain"),
        ("onnx_model", ("100m", "768Mi"), {"memory": "1536Mi"}, "slipway-deployer"),
        (
            "onnx_model_conversion_parity",
            ("100m", "768Mi"),
            {"memory": "1536Mi"},
            "slipway-deployer",
        ),
        ("bento", ("700m", "3Gi"), {"memory": "5Gi", "cpu": "2"}, "slipway-plain"),
        ("staging_deployment", ("250m", "1Gi"), {"memory": "3Gi"}, "slipway-deployer"),
        ("staging_deployment_smoke_test", ("250m", "1Gi"), {"memory": "3Gi"}, "slipway-deployer"),
    ],
)
def test_a_step_has_the_resources_and_the_rights_of_its_asset(
    dagster: dg.DagsterInstance,
    repository: dg.RepositoryDefinition,
    step: str,
    requests: tuple[str, str],
    limits: Mapping[str, str],
    account: str,
) -> None:
    job = repository.get_job("iris_to_staging")
    found = step_job(dagster, job, f"iris__{step}")
    validate(found)
    pod = found["spec"]["template"]["spec"]
    require_restricted(pod)
    (container,) = pod["containers"]
    assert container["resources"] == {
        "requests": dict(zip(("cpu", "memory"), requests, strict=True)),
        "limits": limits,
    }
    assert pod["serviceAccountName"] == account
    assert pod["automountServiceAccountToken"] is (account == "slipway-deployer")
    assert has_keys(pod) is (account == "slipway-deployer")
    assert container["image"] == IMAGE


def has_keys(pod: Any) -> bool:
    """The API keys, without which no model server answers it."""
    (container,) = pod["containers"]
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    secrets = [each for each in pod["volumes"] if each.get("secret")]
    assert [each["name"] for each in secrets] == [name for name in mounts if name == "keys"]
    assert all(each["secret"]["secretName"] == "slipway-keys" for each in secrets)
    assert mounts.get("keys", "/etc/slipway/keys") == "/etc/slipway/keys"
    return bool(secrets)


def test_the_check_that_takes_a_bad_release_back_may_do_so(
    dagster: dg.DagsterInstance, repository: dg.RepositoryDefinition
) -> None:
    job = repository.get_job("iris_to_production")
    found = step_job(dagster, job, "iris__production_deployment_release_health")
    pod = found["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "slipway-deployer"
    assert has_keys(pod)


def step_job(dagster: dg.DagsterInstance, job: dg.JobDefinition, op: str) -> Any:
    """The Job of one step, with what the executor finds out for `K8sStepHandler.launch_step`."""
    from dagster._core.definitions.job_base import InMemoryJob
    from dagster._core.executor.init import InitExecutorContext
    from dagster._core.system_config.objects import ResolvedRunConfig
    from dagster_k8s.job import construct_dagster_k8s_job
    from kubernetes.client import ApiClient

    config = ResolvedRunConfig.build(job, {}).execution.execution_engine_config
    definition = job.executor_def
    assert definition.executor_creation_fn is not None
    executor: Any = definition.executor_creation_fn(
        InitExecutorContext(InMemoryJob(job), definition, config, dagster)
    )
    handler = executor._step_handler
    about: Any = SimpleNamespace(
        execute_step_args=SimpleNamespace(step_keys_to_execute=[op]),
        dagster_run=run_of(dagster, job),
        instance=dagster,
        step_tags={op: job.get_node_named(op).tags},
        get_step_context=lambda _: SimpleNamespace(step=SimpleNamespace(op_name=op)),
    )
    context = handler._get_container_context(about)
    made = construct_dagster_k8s_job(
        context.get_k8s_job_config(None, dagster.run_launcher),
        ["dagster", "api", "execute_step"],
        "dagster-step-1",
        context.run_k8s_config,
        component="step_worker",
    )
    return ApiClient().sanitize_for_serialization(made)


def without_server_fields(item: dict[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in item["metadata"].items() if k in ("name", "labels")}
    return item | {"metadata": kept}


def test_a_pod_without_a_token_can_still_report_to_dagster(
    dagster: dg.DagsterInstance, cluster: ApiServer
) -> None:
    """Whoever opens the instance there has no credentials for a launcher."""
    cluster.kubeconfig().unlink()
    with dg.DagsterInstance.from_ref(dagster.get_ref()) as opened:
        assert opened.get_runs() == []
        assert opened.run_will_resume("11111111-2222-3333-4444-555555555555") is False
