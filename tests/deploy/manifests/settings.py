"""Settings of a cluster and states to render objects of, by hand and by hypothesis."""

from typing import Any

from hypothesis import strategies as st

from deploy.events import Live
from deploy.manifests.environment import environment_objects
from deploy.manifests.names import Json
from deploy.manifests.workload import server_objects
from serving_config.kubernetes import Artifacts, Kubernetes, Pods, Replicas, Resources
from serving_config.predictions import PredictionLog
from serving_config.schema import Configuration, Environment, Model, Platform
from tests.deploy.releases import live

PER_BENTO = "registry.example/{model}:{bento}"
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,62}", fullmatch=True)


def configuration(
    *,
    cluster: Kubernetes | None = None,
    url: str | None = "s3://bucket/slipway",
    model: str = "iris",
    environment: str = "staging",
    **settings: Any,
) -> Configuration:
    """One model, and the environments; settings: of the one that is named."""
    own = Environment(name=environment, **settings)
    others = {name: Environment(name=name) for name in ("staging", "production")}
    return Configuration(
        platform=Platform(kubernetes=cluster or Kubernetes(), artifacts=Artifacts(url=url)),
        environments=others | {environment: own},
        models={model: Model(name=model)},
    )


def rendered(
    settings: Configuration, live: Live, environment: str = "staging", model: str = "iris"
) -> list[Json]:
    """All that a cluster is given for one live version."""
    of_version = server_objects(settings, environment, model, live)
    return environment_objects(settings, environment) + of_version


@st.composite
def _resources(draw: st.DrawFn) -> Resources:
    low, high = sorted(draw(st.tuples(st.integers(1, 64_000), st.integers(1, 64_000))))
    return Resources(
        cpu=f"{low}m",
        cpu_limit=draw(st.sampled_from((None, f"{high}m"))),
        memory=f"{low}Mi",
        memory_limit=f"{high}Mi",
    )


@st.composite
def _replicas(draw: st.DrawFn) -> Replicas:
    minimum, maximum = sorted(draw(st.tuples(st.integers(1, 1000), st.integers(1, 1000))))
    return Replicas(minimum=minimum, maximum=maximum, cpu_percent=draw(st.integers(1, 100)))


@st.composite
def clusters(draw: st.DrawFn) -> tuple[Configuration, str, str]:
    """Any valid settings, with the name of an environment and of a model."""
    seconds = st.floats(0, 3600, exclude_min=True)
    cluster = Kubernetes(
        image=draw(st.sampled_from(("slipway/model-server:latest", PER_BENTO))),
        image_pull_secret=draw(st.sampled_from((None, "registry"))),
        traffic=draw(st.sampled_from(("gateway-api", "istio", "nginx"))),
        gateway=draw(st.sampled_from(("slipway/slipway", "gateways/shared"))),
        predictions_claim=draw(st.sampled_from((None, "predictions"))),
    )
    environment, model = draw(NAMES), draw(NAMES)
    settings = configuration(
        cluster=cluster,
        url=draw(st.sampled_from(("s3://bucket/slipway", "http://minio.slipway:9000/slipway"))),
        model=model,
        environment=environment,
        target=draw(st.sampled_from(("kubernetes", "kserve"))),
        kubernetes=Pods(
            namespace=draw(st.sampled_from((None, "models"))),
            replicas=draw(_replicas()),
            resources=draw(_resources()),
        ),
        cache_url=draw(st.sampled_from((None, "rediss://:word@cache.example:6380/0"))),
        ready_timeout_seconds=draw(seconds),
        drain_timeout_seconds=draw(seconds),
        prediction_log=PredictionLog(
            enabled=draw(st.booleans()),
            cloud_events_url=draw(st.sampled_from((None, "https://events.example/in?token=word"))),
        ),
    )
    return settings, environment, model


@st.composite
def lives(draw: st.DrawFn, model: str) -> Live:
    """Any live version of the model."""
    weight = draw(st.integers(0, 100))
    variant = draw(st.sampled_from(("fp32", "int8")))
    found = live(draw(st.integers(1, 10**6)), weight, model=model, variant=variant)
    return found.with_share(weight, draw(st.integers(0, 100)) if weight == 0 else 0)
