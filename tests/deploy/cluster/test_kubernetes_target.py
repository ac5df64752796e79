"""The Kubernetes target on a stand-in API server: what it applies, waits for and removes."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.cluster.pods import is_ready
from deploy.cluster.rights import RIGHTS
from deploy.gateway.envoy import GatewayError
from deploy.ledger import Ledger
from deploy.live import live_clusters
from deploy.rollout import GateError
from deploy.targets import cluster_routes
from deploy.targets.base import TargetError
from serving_config.kubernetes import Kubernetes
from serving_config.schema import Configuration, Environment
from tests.deploy.cluster.api_server import Request
from tests.deploy.cluster.controllers import ends, waits
from tests.deploy.cluster.places import SPACE, Place, on, place, settings
from tests.deploy.releases import live, release
from tests.deploy.serving_things import ANN, FAILED, PLACE, name_of, policy, promote, traffic_of

OLD, NEW = release(1), release(2)


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    ledger = Ledger("sqlite://")
    yield ledger
    ledger.close()


@pytest.fixture
def here(tmp_path: Path, ledger: Ledger) -> Iterator[Place]:
    with place(tmp_path, ledger) as here:
        yield here


def kinds(here: Place) -> set[str]:
    return {kind for kind, _, _ in here.api.objects}


def is_settled(here: Place) -> None:
    """The cluster is exactly what the ledger says."""
    assert set(here.target.servers()) == live_clusters(here.ledger)
    for kind in ("services", "horizontalpodautoscalers.autoscaling"):
        found = {item["metadata"]["name"] for item in here.api.of(kind, SPACE)}
        assert found - {"slipway-nothing-live"} == live_clusters(here.ledger), kind
    assert here.target.in_step()
    assert here.api.of("leases.coordination.k8s.io") == []


def test_a_release_a_second_one_and_back(here: Place) -> None:
    promote(here.target, OLD)
    is_settled(here)
    assert here.target.servers() == {name_of(OLD): f"{name_of(OLD)}.{SPACE}.svc:3000"}
    assert here.target.ready(name_of(OLD))
    promote(here.target, NEW)
    is_settled(here)
    traffic = traffic_of(here.target)
    traffic.rollback(*PLACE, ANN, "slow")
    traffic.tidy(*PLACE)
    is_settled(here)
    assert [item.label for item in here.ledger.state(*PLACE).live] == ["1"]


def test_the_same_release_again_writes_nothing_new(here: Place) -> None:
    promote(here.target, OLD)
    before = {key: item["metadata"]["resourceVersion"] for key, item in here.api.objects.items()}
    assert promote(here.target, OLD).status == "unchanged"
    after = {key: item["metadata"]["resourceVersion"] for key, item in here.api.objects.items()}
    moved = {key[0] for key in before | after if before.get(key) != after.get(key)}
    # A step of the stand-in's controllers writes these.
    assert moved <= {"deployments.apps", "httproutes.gateway.networking.k8s.io", "pods"}


def test_a_status_of_the_generation_before_is_not_believed(here: Place) -> None:
    here.target.start(OLD, "staging")
    here.controllers.settle()
    name = name_of(OLD)
    assert here.target._look(name, "staging").state == "ready"
    here.api.after.clear()  # the cluster stands still
    changed = settings(kubernetes={"resources": {"memory": "500Mi"}})
    here.target.configuration.environments["staging"] = changed.environments["staging"]
    here.target.start(OLD, "staging")
    look = here.target._look(name, "staging")
    assert (look.state, look.reason) == (
        "waiting",
        "the cluster has seen generation 1, not yet 2",
    )
    here.controllers.settle()
    assert here.target._look(name, "staging").state == "ready"


TROUBLES = {
    "an image that cannot be pulled": (
        waits("ImagePullBackOff", "pull access denied"),
        "cannot be pulled (ImagePullBackOff: pull access denied)",
    ),
    "a crash": (ends(1), "crashes again and again (exit code 1); its last words: no such graph"),
    "a kill for memory": (
        ends(137, "OOMKilled"),
        "at its limit 768Mi: raise kubernetes.resources.memory_limit",
    ),
    "an init container": (
        ends(3, init=True),
        "init container fetch-bento of pod",
    ),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_a_release_that_fails_leaves_the_old_version_serving(here: Place, name: str) -> None:
    promote(here.target, OLD)
    trouble, words = TROUBLES[name]
    here.controllers.troubles["iris-2"] = trouble

    class Logs(dict):  # type: ignore[type-arg]
        def __contains__(self, key: object) -> bool:
            return True

        def __missing__(self, key: object) -> str:
            return "loading\nno such graph\n"

    here.api.texts = Logs()
    before = here.ledger.events()
    with pytest.raises(TargetError) as caught:
        promote(here.target, NEW)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert here.ledger.events() == before
    is_settled(here)
    del here.controllers.troubles["iris-2"]
    promote(here.target, NEW)
    is_settled(here)


def scaled(here: Place, pods: int) -> None:
    """By the autoscaler."""
    scale = {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": pods}}
    here.api.edit(("deployments.apps", SPACE, name_of(OLD)), "kube-controller-manager", scale)


def pods_wanted(here: Place) -> int:
    deployment = here.api.objects["deployments.apps", SPACE, name_of(OLD)]
    return int(deployment["spec"]["replicas"])


def several(here: Place) -> None:
    more = settings(kubernetes={"replicas": {"minimum": 3, "maximum": 9}})
    here.target.configuration.environments["staging"] = more.environments["staging"]


def test_the_first_request_finds_as_many_pods_as_there_are_to_be_at_least(here: Place) -> None:
    several(here)
    ready_then: list[int] = []

    def look(request: Request) -> None:
        if request.method == "PATCH" and request.plural == "httproutes":
            pods = map(is_ready, here.target.cluster.list("Pod", SPACE, {}))
            ready_then.append(sum(pods))

    here.api.faults.append(look)
    promote(here.target, OLD)
    assert ready_then[0] == 3


def test_how_many_pods_there_are_is_the_autoscaler_s_from_then_on(here: Place) -> None:
    several(here)
    promote(here.target, OLD)
    for pods in (7, 4):
        scaled(here, pods)
        promote(here.target, OLD)
        assert pods_wanted(here) == pods


def test_who_started_it_may_have_been_killed_before_it_had_them_all(here: Place) -> None:
    several(here)
    here.target.start(OLD, "staging")
    scaled(here, 1)
    here.controllers.settle()
    look = here.target._look(name_of(OLD), "staging")
    assert (look.state, look.reason) == (
        "waiting",
        "1 of 3 pods are updated, 1 are available",
    )
    scaled(here, 3)
    here.controllers.settle()
    assert here.target._look(name_of(OLD), "staging").state == "ready"


def test_a_namespace_that_is_there_is_left_as_it_is(here: Place) -> None:
    promote(here.target, OLD)
    assert "patch namespaces /slipway-staging" in here.api.calls, "there was none"
    here.api.calls.clear()
    here.api.forbidden |= {("patch", "namespaces"), ("get", "namespaces")}
    promote(here.target, NEW)
    assert not [call for call in here.api.calls if call.startswith("patch namespaces")]


def test_a_namespace_that_nobody_may_make_is_told_by_what_would_be_in_it(here: Place) -> None:
    here.api.forbidden |= {("patch", "namespaces"), ("get", "namespaces")}
    with pytest.raises(TargetError, match=f"`kubectl create namespace {SPACE}`"):
        promote(here.target, OLD)


def test_the_routes_of_another_gateway_go_once_this_one_serves(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(here.target, OLD)
    meta = {"name": "old", "labels": dict(cluster_routes._LABELS)}
    here.api.groups.add("networking.istio.io")
    for kind in ("virtualservices.networking.istio.io", "ingresses.networking.k8s.io"):
        here.api.add(kind, {"metadata": dict(meta)}, SPACE)
        here.api.add(kind, {"metadata": {"name": "yours"}}, SPACE)
    assert not here.target.in_step()
    with monkeypatch.context() as patched:
        patched.setattr("deploy.targets.kubernetes._ROUTE_SECONDS", 0.2)
        patched.setattr(here.controllers, "_accept", lambda route: None)
        for route in here.api.of("httproutes.gateway.networking.k8s.io"):
            route["status"] = {}
        with pytest.raises(GatewayError):
            here.target.route()
    ours = [item for item in here.api.of("ingresses.networking.k8s.io") if "labels" in str(item)]
    assert ours, "nobody would have served meanwhile"
    here.target.route()
    for kind in ("virtualservices.networking.istio.io", "ingresses.networking.k8s.io"):
        assert [item["metadata"]["name"] for item in here.api.of(kind)] == ["yours"]
    is_settled(here)


def test_a_pod_that_serves_another_model_is_not_released(here: Place) -> None:
    here.digests["1"] = "f" * 64
    with pytest.raises(TargetError, match=f"serves ONNX digest {'f' * 64}"):
        promote(here.target, OLD)
    assert here.target.servers() == {}


def test_a_candidate_that_the_gate_refuses_leaves(here: Place) -> None:
    promote(here.target, OLD)
    with pytest.raises(GateError):
        promote(here.target, NEW, policy("blue_green"), lambda request, state: FAILED)
    is_settled(here)


def test_a_gateway_that_does_not_take_the_route_takes_the_change_back(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.targets.kubernetes._ROUTE_SECONDS", 0.2)
    promote(here.target, OLD)
    monkeypatch.setattr(here.controllers, "_accept", lambda route: None)
    with pytest.raises(GatewayError, match="has not said yet whether it is Accepted"):
        promote(here.target, NEW)
    assert [item.label for item in here.ledger.state(*PLACE).live] == ["1"]


def by_nginx() -> Configuration:
    """It knows one environment."""
    shipped = settings()
    platform = shipped.platform.model_copy(
        update={
            "default_environment": "staging",
            "kubernetes": Kubernetes(url="http://gateway.example", traffic="nginx"),
        }
    )
    elsewhere = Environment(name="production")
    environments = {"staging": shipped.environments["staging"], "production": elsewhere}
    return shipped.model_copy(update={"platform": platform, "environments": environments})


def test_what_the_gateway_can_never_do_is_refused_before_the_ledger_has_it(
    tmp_path: Path, ledger: Ledger
) -> None:
    with place(tmp_path, ledger, by_nginx()) as here:
        promote(here.target, OLD)
        traffic = traffic_of(here.target)
        for which in (NEW, release(3)):
            traffic.load(which, "staging", ANN)
        before = ledger.events("iris", "staging")
        with pytest.raises(TargetError, match="nginx shares the traffic of two versions"):
            traffic.split(*PLACE, {"1": 50, "2": 25, "3": 25}, ANN)
        assert ledger.events("iris", "staging") == before
        assert here.target.in_step()
        traffic.split(*PLACE, {"1": 50, "2": 50}, ANN)
        is_settled(here)


def test_settings_by_which_no_route_can_be_made_are_told_and_nothing_is_recorded(
    here: Place,
) -> None:
    promote(here.target, OLD)
    before = here.ledger.events("iris", "staging")
    platform = here.target.configuration.platform
    nginx = platform.kubernetes.model_copy(update={"traffic": "nginx"})
    changed = platform.model_copy(update={"kubernetes": nginx})
    there = here.target.configuration.model_copy(update={"platform": changed})
    other = on(here.target.cluster, here.ledger, there)
    assert not other.in_step()
    with pytest.raises(TargetError, match="only the default environment"):
        promote(other, NEW)
    assert here.ledger.events("iris", "staging") == before
    is_settled(here)


def test_what_somebody_changes_by_hand_is_put_right_or_told(here: Place) -> None:
    promote(here.target, OLD)
    route = next(iter(here.api.of("httproutes.gateway.networking.k8s.io", SPACE)))
    key = ("httproutes.gateway.networking.k8s.io", SPACE, route["metadata"]["name"])
    here.api.drop(key)
    assert not here.target.in_step()
    here.target.route()
    assert here.target.in_step()
    here.api.edit(
        key,
        "kubectl-edit",
        {"apiVersion": route["apiVersion"], "kind": "HTTPRoute", "spec": {"rules": []}},
    )
    assert not here.target.in_step()
    with pytest.raises(TargetError, match=r"kubectl-edit has changed \.spec\.rules"):
        here.target.route()


def test_what_all_pods_have_counted_does_not_fall_when_one_goes(here: Place) -> None:
    configuration = settings(kubernetes={"replicas": {"minimum": 2, "maximum": 4}})
    here.target.configuration.environments["staging"] = configuration.environments["staging"]
    promote(here.target, OLD)
    name = name_of(OLD)
    first, second = here.pods_of(name)
    here.servers[first].answered(5)
    here.servers[second].answered(3)
    here.servers[second].answered(2, 500)
    found = here.target.observe(name)
    assert (found.requests, found.errors, sum(found.durations.values())) == (10, 2, 10)
    pod = next(item for item in here.api.of("pods") if item["metadata"]["name"] == second)
    here.controllers.remove_pod(pod)
    here.controllers.settle()
    assert second not in here.pods_of(name)
    assert here.target.observe(name).requests == 10
    # Another process of the platform has not seen the pod that went.
    here.servers[first].answered(1)
    other = type(here.target)(
        here.target.home,
        here.target.configuration,
        here.ledger,
        here.target.cluster,
        here.target.environments,
        0.01,
    )
    assert other.observe(name).requests == here.target.observe(name).requests == 11


def test_a_server_without_ready_pods_cannot_be_observed(here: Place) -> None:
    with pytest.raises(TargetError, match="is not running"):
        here.target.observe(name_of(OLD))
    here.target.start(OLD, "staging")
    here.controllers.step()
    with pytest.raises(TargetError, match="none of its pods is ready"):
        here.target.observe(name_of(OLD))
    assert not here.target.ready(name_of(OLD))


def test_it_drains_until_no_request_is_in_hand_or_the_deadline(here: Place) -> None:
    promote(here.target, OLD)
    (server,) = here.servers.values()
    server.metrics.in_hand(1)
    here.api.calls.clear()
    here.target.drain(name_of(OLD), "staging")
    asked = len(here.api.calls)
    assert asked > 10, "it did not wait"
    server.metrics.in_hand(0)
    here.api.calls.clear()
    here.target.drain(name_of(OLD), "staging")
    assert len(here.api.calls) == 2


def test_where_clients_ask(here: Place) -> None:
    endpoint = here.target.endpoint("staging", "iris", live(1))
    assert endpoint.url == "http://gateway.example/models/iris"
    assert endpoint.headers == {"X-Environment": "staging", "X-Model-Version": "1"}
    with pytest.raises(TargetError, match="leave `shadow` out"):
        here.target.agreement(name_of(NEW), name_of(OLD), "2026-01-01T00:00:00Z", 2)


def test_missing_platform_namespace(here: Place) -> None:
    here.api.drop(("namespaces", "", "slipway"))
    with pytest.raises(TargetError, match="`kubectl create namespace slipway`"):
        promote(here.target, OLD)


def test_it_asks_for_no_more_rights_than_the_platform_is_given(here: Place) -> None:
    promote(here.target, OLD)
    promote(here.target, NEW)
    traffic = traffic_of(here.target)
    traffic.rollback(*PLACE, ANN, "slow")
    traffic.tidy(*PLACE)
    here.target.observe(name_of(OLD))
    given = {
        f"{verb} {kind.full_name}" + (f"/{part}" if part else "") for verb, kind, part in RIGHTS
    }
    asked = {re.sub(r"/proxy/.*", "/proxy", call.rpartition(" ")[0]) for call in here.api.calls}
    assert asked <= given
