"""A KServe InferenceService says what the ledger says, or says that it cannot."""

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from deploy.events import Live, State
from deploy.manifests.checks import problems
from deploy.manifests.environment import environment_objects
from deploy.manifests.identity import KEYS
from deploy.manifests.kserve import NotForKServeError, inference_service
from deploy.manifests.names import Json
from serving_config.kubernetes import Kubernetes, Pods, Replicas
from serving_config.schema import Configuration
from tests.deploy.manifests.schemas import VERSIONS, validate
from tests.deploy.manifests.settings import PER_BENTO, clusters, configuration, lives
from tests.deploy.releases import live

# Of KServe's ComponentExtensionSpec.
KSERVES_OWN = {
    *("minReplicas", "maxReplicas", "canaryTrafficPercent", "timeout", "labels", "annotations"),
}
PROVIDED = ("Secret/registry", "PersistentVolumeClaim/predictions", f"Secret/{KEYS}")


def predictor(*versions: Live, candidate: str | None = None) -> Json:
    pods = Pods(replicas=Replicas(minimum=2, maximum=7))
    settings = configuration(target="kserve", kubernetes=pods)
    state = State("staging", "iris", 1, versions)
    (item,) = inference_service(settings, "staging", "iris", state, candidate)
    return item["spec"]["predictor"]  # type: ignore[no-any-return]


@hypothesis_settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data(), cluster=clusters())
def test_any_settings_and_any_version_give_an_object_without_problems(
    data: st.DataObject, cluster: tuple[Configuration, str, str]
) -> None:
    settings, environment, model = cluster
    version = data.draw(lives(model)).with_share(100)
    state = State(environment, model, 1, (version,))
    objects = inference_service(settings, environment, model, state)
    assert problems(environment_objects(settings, environment) + objects, PROVIDED) == []


def test_nothing_live_is_no_object() -> None:
    assert inference_service(configuration(), "staging", "iris", State("staging", "iris")) == []


def test_one_version_has_all_traffic_and_speaks_the_open_inference_protocol() -> None:
    found = predictor(live(3))
    (server,) = found["containers"]
    assert "canaryTrafficPercent" not in found
    assert (found["minReplicas"], found["maxReplicas"]) == (2, 7)
    assert server["name"] == "kserve-container"
    assert {"name": "PROTOCOL", "value": "v2"} in server["env"]
    assert server["ports"] == [{"containerPort": 3000, "protocol": "TCP"}]


@pytest.mark.parametrize(("weight", "percent"), [(0, 0), (10, 10), (100, None)])
def test_the_newer_of_two_versions_gets_its_share_and_the_other_is_the_revision_before(
    weight: int, percent: int | None
) -> None:
    found = predictor(live(3, 100 - weight), live(4, weight))
    assert found.get("canaryTrafficPercent") == percent
    assert found["labels"]["slipway.dev/version"] == "4"


def test_the_version_that_comes_may_be_the_older_one() -> None:
    found = predictor(live(3, 10), live(4, 90), candidate="3")
    assert found["canaryTrafficPercent"] == 10
    assert found["labels"]["slipway.dev/version"] == "3"


@pytest.mark.parametrize("version", VERSIONS)
def test_all_but_kserves_own_fields_is_a_pod_by_the_strict_schema(version: str) -> None:
    found = predictor(live(3, 90), live(4, 10))
    spec = {key: value for key, value in found.items() if key not in KSERVES_OWN}
    assert len(found) - len(spec) == len(KSERVES_OWN)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "iris"}, "spec": spec}
    validate(pod, version)


@pytest.mark.parametrize("image", [Kubernetes().image, PER_BENTO])
def test_the_pod_has_nothing_that_knative_refuses_or_sets_by_itself(image: str) -> None:
    settings = configuration(cluster=Kubernetes(image=image), target="kserve")
    state = State("staging", "iris", 1, (live(3),))
    (item,) = inference_service(settings, "staging", "iris", state)
    pod = item["spec"]["predictor"]
    assert not {"securityContext", "terminationGracePeriodSeconds"} & pod.keys()
    for container in [*pod["containers"], *pod.get("initContainers", ())]:
        assert not {"lifecycle", "startupProbe"} & container.keys()
        assert not {"/tmp", "/var"} & {mount["mountPath"] for mount in container["volumeMounts"]}  # noqa: S108
        names = [variable["name"] for variable in container["env"]]
        assert "PORT" not in names
        assert len(names) == len(set(names))
        assert {"name": "TMPDIR", "value": "/scratch"} in container["env"]


@pytest.mark.parametrize(
    ("versions", "message"),
    [
        ((live(3), live(4, 0).with_share(0, 20)), "version 4 gets copied requests in staging"),
        ((live(2, 0), live(3, 90), live(4, 10)), "versions 2, 3, 4 are live in staging"),
        ((live(2, 30), live(3, 30), live(4, 40)), "versions 2, 3, 4 are live in staging"),
    ],
)
def test_what_kserve_cannot_serve_is_refused_with_what_to_do(
    versions: tuple[Live, ...], message: str
) -> None:
    with pytest.raises(NotForKServeError, match=rf"{message}.*target: kubernetes"):
        predictor(*versions)


def test_a_candidate_that_is_not_live_is_refused() -> None:
    with pytest.raises(NotForKServeError, match="version 5 is not live in staging"):
        predictor(live(3, 90), live(4, 10), candidate="5")
