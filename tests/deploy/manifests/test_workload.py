"""The objects of a live version: valid for every cluster, restricted, and what the ledger says."""

import json

import msgspec
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bentos.model_server.settings import from_environment
from deploy.manifests.checks import problems
from deploy.manifests.identity import KEYS
from deploy.manifests.names import Json
from deploy.manifests.workload import server_objects
from serving_config.kubernetes import Kubernetes, Pods, Replicas
from serving_config.predictions import PredictionLog
from serving_config.schema import Configuration
from tests.deploy.manifests.schemas import VERSIONS, validate
from tests.deploy.manifests.settings import PER_BENTO, clusters, configuration, lives, rendered
from tests.deploy.releases import live

REGISTRY = "registry"
PROVIDED = (f"Secret/{REGISTRY}", "PersistentVolumeClaim/predictions", f"Secret/{KEYS}")
SECRETS = {
    "cache_url": "redis://:word@cache.example/0",
    "prediction_log": PredictionLog(cloud_events_url="https://events.example/?token=word"),
}


def by_kind(settings: Configuration, weight: int = 100, mirror: int = 0) -> dict[str, Json]:
    version = live(3).with_share(weight, mirror)
    return {item["kind"]: item for item in server_objects(settings, "staging", "iris", version)}


def pod(settings: Configuration) -> Json:
    return by_kind(settings)["Deployment"]["spec"]["template"]["spec"]  # type: ignore[no-any-return]


def mounts(spec: Json) -> dict[str, Json]:
    return {mount["name"]: mount for mount in spec["containers"][0]["volumeMounts"]}


@hypothesis_settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data(), cluster=clusters())
def test_any_settings_and_any_live_version_give_objects_without_problems(
    data: st.DataObject, cluster: tuple[Configuration, str, str]
) -> None:
    settings, environment, model = cluster
    objects = rendered(settings, data.draw(lives(model)), environment, model)
    assert problems(objects, PROVIDED) == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("image", [Kubernetes().image, PER_BENTO])
def test_each_object_keeps_to_the_schema_of_the_oldest_and_the_newest_cluster(
    version: str, image: str
) -> None:
    cluster = Kubernetes(image=image, image_pull_secret=REGISTRY, predictions_claim="log")
    settings = configuration(cluster=cluster, **SECRETS)
    for item in rendered(settings, live(3)):
        validate(item, version)


def test_the_pod_reads_its_variables_as_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    claim = Kubernetes(predictions_claim="log")
    for item in pod(configuration(cluster=claim, threads=2))["containers"][0]["env"]:
        monkeypatch.setenv(item["name"], item["value"])
    read = from_environment("iris:3")
    assert (read.threads, read.drain_seconds, read.keys_required) == (2, 1.0, True)
    assert str(read.keys) == "/etc/slipway/keys/keys.json"
    assert read.features_url == "http://feature-transformer.slipway:8090"
    assert read.prediction_log is not None
    assert str(read.prediction_log.folder) == "/predictions"
    assert read.prediction_log.environment == "staging"


def test_no_password_stands_in_an_object_but_in_a_secret_that_the_pod_refers_to() -> None:
    settings = configuration(**SECRETS)
    assert "word" not in json.dumps(rendered(settings, live(3)))
    sources = [item.get("valueFrom") for item in pod(settings)["containers"][0]["env"]]
    named = [source["secretKeyRef"] for source in sources if source is not None]
    assert named == [
        {"name": KEYS, "key": "SLIPWAY_CACHE_URL"},
        {"name": KEYS, "key": "SLIPWAY_CLOUD_EVENTS_URL"},
    ]


def test_a_generic_image_fetches_the_very_bento_and_an_image_of_its_own_nothing() -> None:
    version = live(3)
    (fetch,) = pod(configuration())["initContainers"]
    given_words = dict(zip(fetch["command"][4::2], fetch["command"][5::2], strict=True))
    assert given_words == {
        "--url": "s3://bucket/slipway",
        "--bento": version.bento,
        "--digest": version.bento_digest,
        "--into": "/bento",
    }
    mount = mounts(pod(configuration()))["bento"]
    assert mount["subPath"] == f"bentos/{version.bento.replace(':', '/')}"
    baked = pod(configuration(cluster=Kubernetes(image=PER_BENTO), url=None))
    tag = version.bento.partition(":")[2]
    assert "initContainers" not in baked
    assert baked["containers"][0]["image"] == f"registry.example/iris:{tag}"
    assert "bento" not in mounts(baked)


def test_without_a_place_to_fetch_from_nothing_is_rendered_and_the_setting_is_named() -> None:
    with pytest.raises(ValueError, match=r"artifacts\.url is left out.*kubernetes\.image"):
        server_objects(configuration(url=None), "staging", "iris", live(3))


@pytest.mark.parametrize(
    ("weight", "mirror", "maximum"), [(100, 0, 7), (1, 0, 7), (0, 20, 7), (0, 0, 2)]
)
def test_a_version_that_nobody_asks_stays_at_the_minimum(
    weight: int, mirror: int, maximum: int
) -> None:
    pods = Pods(replicas=Replicas(minimum=2, maximum=7))
    scaled = by_kind(configuration(kubernetes=pods), weight, mirror)["HorizontalPodAutoscaler"]
    assert (scaled["spec"]["minReplicas"], scaled["spec"]["maxReplicas"]) == (2, maximum)


@given(drain=st.floats(0, 3600, exclude_min=True), ready=st.floats(0, 3600, exclude_min=True))
@example(drain=30.0, ready=60.0)
def test_a_pod_has_its_drain_time_after_gateways_have_heard_and_its_time_to_get_ready(
    drain: float, ready: float
) -> None:
    settings = configuration(drain_timeout_seconds=drain, ready_timeout_seconds=ready)
    deployment = by_kind(settings)["Deployment"]["spec"]
    spec = deployment["template"]["spec"]
    server = spec["containers"][0]
    sleep = server["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert sleep > 0
    assert spec["terminationGracePeriodSeconds"] >= sleep + drain
    assert deployment["progressDeadlineSeconds"] >= ready
    startup = server["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= ready


def test_what_is_served_is_annotated_and_neither_another_share_nor_certificate_restarts_pods() -> (
    None
):
    before = live(3)
    after = msgspec.structs.replace(before.with_share(5), certificate_sha256="0" * 64)
    one, other = (
        server_objects(configuration(), "staging", "iris", it)[0] for it in (before, after)
    )
    assert one["spec"] == other["spec"]
    assert other["metadata"]["annotations"] == {
        "slipway.dev/bento": before.bento,
        "slipway.dev/bento-digest": before.bento_digest,
        "slipway.dev/onnx-sha256": before.onnx_sha256,
        "slipway.dev/certificate-sha256": "0" * 64,
    }
