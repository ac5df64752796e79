"""The API client against the stand-in: what it writes, and one sentence for every refusal."""

import builtins
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.cluster.client import Cluster
from deploy.cluster.connection import Connection, connect
from deploy.cluster.errors import (
    ClusterError,
    ForeignManagerError,
    MovedError,
    NotFoundError,
)
from deploy.processes import free_port
from serving_config.kubernetes import Kubernetes
from tests.deploy.cluster.api_server import ApiServer, RefusalError, Request, api_server
from tests.deploy.cluster.kubeconfig import client_of, write_kubeconfig

SPACE = "slipway-staging"


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with api_server(SPACE) as api:
        yield api


@pytest.fixture
def cluster(api: ApiServer, tmp_path: Path) -> Iterator[Cluster]:
    with client_of(api, tmp_path) as cluster:
        yield cluster


def deployment(image: str = "server:1", **spec: Any) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": "iris"}},
        "spec": {"containers": [{"name": "server", "image": image}]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "iris", "namespace": SPACE, "labels": {"app": "iris"}},
        "spec": {"template": template, **spec},
    }


def route() -> dict[str, Any]:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "iris", "namespace": SPACE},
        "spec": {},
    }


def refusing(cluster: Cluster) -> str:
    with pytest.raises(ClusterError) as caught:
        cluster.apply(deployment())
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_the_same_object_again_changes_nothing(cluster: Cluster) -> None:
    first = cluster.apply(deployment())
    again = cluster.apply(deployment())
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    other = cluster.apply(deployment("server:2"))
    assert other["metadata"]["generation"] == first["metadata"]["generation"] + 1


def test_what_is_not_said_any_more_goes_and_what_others_set_stays(
    api: ApiServer, cluster: Cluster
) -> None:
    cluster.apply(deployment(paused=True, minReadySeconds=3))
    api.edit(
        ("deployments.apps", SPACE, "iris"),
        "autoscaler",
        {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 4}},
    )
    spec = cluster.apply(deployment(minReadySeconds=3))["spec"]
    assert "paused" not in spec
    assert (spec["replicas"], spec["minReadySeconds"]) == (4, 3)


def test_a_field_that_somebody_else_changed_is_not_taken_from_them(
    api: ApiServer, cluster: Cluster
) -> None:
    cluster.apply(deployment())
    key = ("deployments.apps", SPACE, "iris")
    api.edit(key, "kubectl-edit", deployment("mine:1"))
    with pytest.raises(ForeignManagerError) as caught:
        cluster.apply(deployment("server:2"))
    for word in ("kubectl-edit", '.containers[name="server"].image', "iris", "managed-fields"):
        assert word in str(caught.value)
    assert cluster.get("Deployment", SPACE, "iris")["spec"]["template"]["spec"]["containers"] == [
        {"name": "server", "image": "mine:1"}
    ]
    cluster.apply(deployment("mine:1"))  # the same value is no conflict
    api.edit(key, "kubectl-edit", {"apiVersion": "apps/v1", "kind": "Deployment"})
    cluster.apply(deployment("server:2"))  # and once they have let go, it is ours


def test_a_list_comes_whole_and_by_its_labels(api: ApiServer, cluster: Cluster) -> None:
    for number in range(1200):
        labels = {"app": "iris" if number % 2 else "wine"}
        api.add("pods", {"metadata": {"name": f"pod-{number}", "labels": labels}}, SPACE)
    assert len(cluster.list("Pod", SPACE, {"app": "iris"})) == 600
    assert len(cluster.list("Pod", SPACE, {})) == 1200
    assert cluster.list("Pod", "nowhere", {}) == []


def test_only_the_very_object_that_was_read_is_deleted(cluster: Cluster) -> None:
    first = cluster.apply(route() | {"apiVersion": "v1", "kind": "Service"})
    assert cluster.delete(first)
    assert not cluster.delete(first)
    cluster.apply(route() | {"apiVersion": "v1", "kind": "Service"})
    with pytest.raises(MovedError, match="uid"):
        cluster.delete(first)


def test_of_two_writers_of_one_version_the_second_is_told(cluster: Cluster) -> None:
    meta = {"name": "one", "namespace": SPACE}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta}
    made = cluster.create(lease)
    with pytest.raises(MovedError):
        cluster.create(lease)
    cluster.replace(made | {"spec": {"holderIdentity": "a"}})
    with pytest.raises(MovedError):
        cluster.replace(made | {"spec": {"holderIdentity": "b"}})
    now = cluster.get("Lease", SPACE, "one")
    assert now["spec"] == {"holderIdentity": "a"}
    assert cluster.delete(now, unchanged=True)
    with pytest.raises(MovedError):
        cluster.replace(now)


def test_no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    config = write_kubeconfig(tmp_path / "config", url)
    monkeypatch.setenv("KUBECONFIG", str(config))
    said = refusing(Cluster(connect(Kubernetes(context="here")), 2))
    assert url in said
    assert "here context" in said
    assert "Connection refused" in said


@pytest.mark.parametrize(
    ("content", "words"), [(None, "no cluster to talk to"), ("{}", "no cluster to talk to")]
)
def test_no_kubeconfig(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, words: str
) -> None:
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(ClusterError, match=words):
        connect(Kubernetes())


def test_a_context_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "config", "http://x")))
    with pytest.raises(ClusterError, match="elsewhere"):
        connect(Kubernetes(context="elsewhere"))


def test_without_the_kubernetes_package_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **more: Any) -> Any:
        if name == "kubernetes":
            raise ImportError("no", name="kubernetes")
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ClusterError, match=r"pip install -e '\.\[kubernetes\]'"):
        connect(Kubernetes())


def test_expired_credentials(api: ApiServer, cluster: Cluster) -> None:
    api.token = "good"  # noqa: S105
    cluster.apply(deployment())
    api.token = "another"  # noqa: S105
    said = refusing(cluster)
    assert "(401)" in said
    assert "good" not in said


def test_forbidden(api: ApiServer, cluster: Cluster) -> None:
    api.forbidden = {("patch", "deployments.apps"), ("get", "pods/log")}
    assert f"`kubectl auth can-i patch deployments.apps -n {SPACE}`" in refusing(cluster)
    pod = {"metadata": {"name": "iris", "namespace": SPACE}}
    with pytest.raises(ClusterError, match=f"can-i get pods/log -n {SPACE}"):
        cluster.logs(pod, "server", 1)


def test_quota(api: ApiServer, cluster: Cluster) -> None:
    def full(request: Request) -> None:
        raise RefusalError(
            403, "Forbidden", 'deployments.apps "iris" is forbidden: exceeded quota: few'
        )

    api.faults.append(full)
    said = refusing(cluster)
    assert "exceeded quota: few" in said
    assert "can-i" not in said


def test_a_missing_namespace(cluster: Cluster) -> None:
    elsewhere = deployment()
    elsewhere["metadata"]["namespace"] = "elsewhere"
    with pytest.raises(ClusterError, match="`kubectl create namespace elsewhere`") as caught:
        cluster.apply(elsewhere)
    assert not isinstance(caught.value, NotFoundError)


@pytest.mark.parametrize(
    ("version", "kind", "words"),
    [
        ("gateway.networking.k8s.io/v1", "HTTPRoute", "gateway-api/releases"),
        ("networking.istio.io/v1", "VirtualService", "istioctl install"),
        ("serving.kserve.io/v1beta1", "InferenceService", "kserve-crd"),
    ],
)
def test_missing_definitions_say_which_and_how_to_install_them(
    cluster: Cluster, version: str, kind: str, words: str
) -> None:
    item = route() | {"apiVersion": version, "kind": kind}
    for act in (
        lambda: cluster.apply(item),
        lambda: cluster.list(kind, SPACE, {}),
        lambda: cluster.find(kind, SPACE, "iris"),
    ):
        with pytest.raises(ClusterError, match=words) as caught:
            act()
        assert version.partition("/")[0] in str(caught.value)


def test_an_api_server_that_is_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "config", url)))
        started = time.monotonic()
        assert "within 0.2 s" in refusing(Cluster(connect(Kubernetes()), 0.2))
        assert time.monotonic() - started < 2


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_overloaded_api_server_is_asked_again_as_it_says_but_not_for_ever(
    api: ApiServer, tmp_path: Path, status: int
) -> None:
    left = [2]

    def busy(request: Request) -> None:
        if left[0]:
            left[0] -= 1
            raise RefusalError(status, "Busy", "busy", headers={"Retry-After": "0.01"})

    api.faults.append(busy)
    with client_of(api, tmp_path, seconds=0.05) as cluster:
        assert cluster.apply(deployment())["metadata"]["name"] == "iris"
        left[0] = 100
        assert str(status) in refusing(cluster)
        assert 100 - left[0] == 4


def test_a_pod_s_last_lines_and_its_answers(api: ApiServer, cluster: Cluster) -> None:
    pod = api.add("pods", {"metadata": {"name": "iris-0"}}, SPACE)
    api.texts["iris-0", "server", True] = "one\ntwo\n"
    assert cluster.logs(pod, "server", 1, previous=True) == "two\n"
    with pytest.raises(ClusterError, match="error trying to reach"):
        cluster.through_proxy(pod, "/ready", {})
    assert not Connection(None, "", inside=False).inside
