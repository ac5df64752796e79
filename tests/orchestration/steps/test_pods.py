"""Heavy steps in pods, by dagster-k8s's own client and a stand-in for the API server that runs what
a pod asks for. What a real cluster adds (scheduling, mounts, rights) is not shown here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from deploy.manifests.dagster import OF_BATCH, OF_STEP
from orchestration.defs.lifecycle.failures import one_sentence
from orchestration.kubernetes import pods
from orchestration.kubernetes.pods import InPods
from orchestration.resources.registry import Registry
from orchestration.resources.serving import Serving
from orchestration.steps.base import Step
from serving_config.load import FOLDER, load
from tests.orchestration.kubernetes.api_server import ApiServer, Json, api_server
from tests.orchestration.kubernetes.schemas import require_restricted, validate
from tests.orchestration.steps.running import exported, failure

pytestmark = [
    pytest.mark.filterwarnings("ignore:Specifying a partitions_def on an AssetCheckSpec"),
    pytest.mark.filterwarnings("ignore:.*expected_writer_count"),
]
OWNER = {"POD_NAME": "dagster-step-1", "POD_UID": "0f1e"}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    monkeypatch.setattr(pods, "_POLL_SECONDS", 0.05)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with api_server(tmp_path) as server:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig()))
        server.variables = {"SLIPWAY_CONFIG": str(FOLDER), "SLIPWAY_HOME": str(tmp_path / "h")}
        yield server


def steps(variables: dict[str, str] | None = None, **changes: Any) -> InPods:
    """changes: of kubernetes.dagster."""
    configuration = load()
    platform = configuration.platform
    dagster = platform.kubernetes.dagster.model_copy(update=changes)
    kubernetes = platform.kubernetes.model_copy(update={"dagster": dagster})
    platform = platform.model_copy(update={"kubernetes": kubernetes})
    return InPods(configuration.model_copy(update={"platform": platform}), variables or {})


def waited_for(runner: InPods, python: list[str]) -> dg.ExecuteInProcessResult:
    """A step whose pod runs `python` with these arguments."""

    class Other(InPods):
        def spec(self, name: Any, command: list[str]) -> Json:
            found = runner.spec(name, command)
            found["containers"][0]["command"] = ["python", *python]
            return found

    other = Other(runner._configuration, runner._variables)
    step: Step[None] = Step("export", ("iris", "1"), lambda: None, lambda *_: None)

    @dg.op(name="ask")
    def ask(context: dg.OpExecutionContext) -> None:
        with one_sentence():  # as every asset
            other.run(context, step)

    @dg.job
    def job() -> None:
        ask()

    with dg.instance_for_test() as instance:
        return job.execute_in_process(instance=instance, raise_on_error=False)


def test_a_version_is_exported_and_proved_in_pods(registry: Registry, cluster: ApiServer) -> None:
    variables = OWNER | {"SLIPWAY_MLFLOW_TRACKING_URI": registry.tracking_uri}
    result = exported(registry, steps(variables))
    assert result.success
    (check,) = result.get_asset_check_evaluations()
    assert check.passed
    folder = Serving.from_environment().folder("iris", 1)
    (made,) = result.get_asset_materialization_events()
    assert made.materialization.metadata["onnx_sha256"].value == folder.onnx_sha256()
    assert [pod["spec"]["containers"][0]["name"] for pod in cluster.created] == ["export", "verify"]
    assert cluster.pods == {}  # none is left behind
    for pod in cluster.created:
        spec, meta = pod["spec"], pod["metadata"]
        kept = {key: meta[key] for key in ("name", "labels", "ownerReferences")}
        validate({"apiVersion": "v1", "kind": "Pod", "metadata": kept, "spec": spec})
        require_restricted(spec)
        assert spec["automountServiceAccountToken"] is False
        assert spec["serviceAccountName"] == "slipway-plain"
        assert meta["ownerReferences"][0]["name"] == OWNER["POD_NAME"]
        assert spec["containers"][0]["resources"]["requests"] == {"cpu": "1", "memory": "2Gi"}
        keys = {item["name"] for item in spec["containers"][0]["env"] if "valueFrom" in item}
        assert keys == set(OF_STEP)


def test_changed_settings_are_other_pods() -> None:
    before = steps().spec("batch", ["-m", "x"])
    asked = load().platform.kubernetes.dagster.steps
    more = asked.other.model_copy(update={"cpu": "7", "memory_limit": "9Gi"})
    after = steps(
        image="registry.example/slipway:2",
        scratch="30Gi",
        batch_timeout_seconds=60.0,
        steps=asked.model_copy(update={"batch_predictions": more}),
    ).spec("batch", ["-m", "x"])
    (old,), (new,) = before["containers"], after["containers"]
    assert (new["image"], after["activeDeadlineSeconds"]) == ("registry.example/slipway:2", 60)
    assert new["resources"]["requests"]["cpu"] == "7"
    assert new["resources"]["limits"] == {"memory": "9Gi"}
    assert old["resources"] != new["resources"]
    assert after["volumes"][0]["emptyDir"] == {"sizeLimit": "30Gi"}
    assert {item["name"] for item in new["env"] if "valueFrom" in item} == set(OF_BATCH)


def test_a_pod_that_fails_is_one_sentence_with_its_last_words(cluster: ApiServer) -> None:
    said = failure(waited_for(steps(), ["-c", "print('hello'); raise ValueError('no weights')"]))
    assert said.startswith("export iris 1: pod dagster-")
    assert said.endswith("ended with exit code 1: ValueError: no weights")
    assert "\n" not in said
    assert cluster.pods == {}


def container(state: Json) -> Json:
    status = {"name": "export", "ready": False, "restartCount": 0, "image": "", "imageID": ""}
    return status | {"state": state}


def scheduled(message: str) -> list[Json]:
    return [{"type": "PodScheduled", "status": "False", "message": message}]


KILLED = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
PULL = {"waiting": {"reason": "ImagePullBackOff", "message": "pull access denied for x"}}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            {"phase": "Failed", "containerStatuses": [container(KILLED)]},
            "was killed for memory at its limit 4Gi: raise kubernetes.dagster.steps.onnx_model",
        ),
        (
            {"phase": "Pending", "containerStatuses": [container(PULL)]},
            "cannot start (ImagePullBackOff): pull access denied for x",
        ),
        (
            {"phase": "Pending", "conditions": scheduled("0/3 nodes: insufficient memory")},
            "finds no node (0/3 nodes: insufficient memory): add nodes, or lower "
            "kubernetes.dagster.steps.onnx_model",
        ),
        (
            {
                "phase": "Failed",
                "reason": "DeadlineExceeded",
                "containerStatuses": [container({"terminated": {"exitCode": 143}})],
            },
            "was ended after 3600 s: see the timeouts in kubernetes.dagster",
        ),
    ],
)
def test_what_goes_wrong_on_a_cluster_is_one_sentence(
    cluster: ApiServer, status: Json, words: str
) -> None:
    cluster.outcome = lambda _: status
    said = failure(waited_for(steps(start_timeout_seconds=0.2), ["-c", "pass"]))
    assert said.startswith("export iris 1: pod dagster-")
    assert said.endswith(words)
    assert cluster.pods == {}


def test_a_pod_that_may_not_be_created_is_what_the_api_server_says(cluster: ApiServer) -> None:
    quota = 'pods "x" is forbidden: exceeded quota: compute'
    cluster.refusal = (403, quota)
    said = failure(waited_for(steps(), ["-c", "pass"]))
    assert said == f"export iris 1: its pod could not be started: {quota}"


def test_without_a_cluster_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/kubeconfig")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    said = failure(waited_for(steps(), ["-c", "pass"]))
    assert "no cluster to talk to" in said
    assert "\n" not in said
