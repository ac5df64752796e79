"""For the Prometheus operator: what is scraped, and the rules of deploy/monitoring."""

from deploy.features import TRANSFORMER
from deploy.kubernetes.parts import CONTROL
from deploy.kubernetes.settings import Source
from deploy.kubernetes.workload import labels, selector
from deploy.manifests.names import Json, namespace
from deploy.monitoring.finding_rules import JOB
from deploy.monitoring.rules import alerting_rules, duration, interval
from serving_config.schema import Environment

_API = "monitoring.coreos.com/v1"
# Label of the pod → label of the target: those that the rules join by.
_MODEL = ("environment", "model", "version")


def monitoring(source: Source) -> list[Json]:
    """A PodMonitor for each environment's model servers and for each part with metrics, and the
    rules."""
    environments = source.configuration.environments.values()
    return [
        *(_model_servers(source, one) for one in environments),
        _part(source, CONTROL, "metrics"),
        _part(source, TRANSFORMER, "http"),
        {
            "apiVersion": _API,
            "kind": "PrometheusRule",
            "metadata": _metadata(source.namespace, "slipway"),
            "spec": alerting_rules(source.configuration),
        },
    ]


def _metadata(where: str, name: str) -> Json:
    return {"name": name, "namespace": where, "labels": labels("monitoring")}


def _monitor(where: str, name: str, chosen: Json, endpoints: list[Json]) -> Json:
    return {
        "apiVersion": _API,
        "kind": "PodMonitor",
        "metadata": _metadata(where, name),
        "spec": {"selector": chosen, "podMetricsEndpoints": endpoints},
    }


def _model_servers(source: Source, environment: Environment) -> Json:
    relabelings = [_job(), *(_from_pod(name) for name in _MODEL), *_variant()]
    chosen = {"matchLabels": {"app.kubernetes.io/component": "model-server"}}
    endpoint = _endpoint(source, "http", relabelings)
    return _monitor(namespace(environment), "model-servers", chosen, [endpoint])


def _part(source: Source, name: str, port: str) -> Json:
    part = {"targetLabel": "part", "replacement": name}
    endpoint = _endpoint(source, port, [_job(), part])
    return _monitor(source.namespace, name, {"matchLabels": selector(name)}, [endpoint])


def _endpoint(source: Source, port: str, relabelings: list[Json]) -> Json:
    seconds = duration(interval(source.configuration))
    return {"port": port, "path": "/metrics", "interval": seconds, "relabelings": relabelings}


def _job() -> Json:
    """As the rules expect it."""
    return {"targetLabel": "job", "replacement": JOB}


def _from_pod(label: str) -> Json:
    return {
        "sourceLabels": [f"__meta_kubernetes_pod_label_slipway_dev_{label}"],
        "targetLabel": label,
    }


def _variant() -> list[Json]:
    """`3-int8` → `int8`; `3` → `fp32`."""
    return [
        {"targetLabel": "variant", "replacement": "fp32"},
        {
            "sourceLabels": ["__meta_kubernetes_pod_label_slipway_dev_version"],
            "regex": "[0-9]+-(.+)",
            "targetLabel": "variant",
            "replacement": "$1",
        },
    ]
