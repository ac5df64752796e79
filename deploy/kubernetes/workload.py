"""The objects of one part of the platform: Deployment, Service, PodDisruptionBudget."""

from collections.abc import Sequence

from deploy.features import TRANSFORMER
from deploy.kubernetes.parts import (
    CODE,
    CONTROL_TARGET_PORT,
    IMAGE,
    IMAGE_VARIABLE,
    METRICS_PORT,
    MLFLOW,
    WEBSERVER,
    Part,
)
from deploy.kubernetes.settings import Source
from deploy.manifests import dagster
from deploy.manifests.dagster import SECRET
from deploy.manifests.names import FIELD_MANAGER, Json
from serving_config.features import Features
from serving_config.kubernetes import Resources

FINGERPRINT = "slipway.dev/settings"
# What it has in flight ends before.
_GRACE_SECONDS = 60


def labels(name: str) -> Json:
    """Of a part's objects."""
    return selector(name) | {"app.kubernetes.io/managed-by": FIELD_MANAGER}


def selector(name: str) -> Json:
    """What a part's pods are found by."""
    return {"app.kubernetes.io/part-of": "slipway", "app.kubernetes.io/name": name}


def part_objects(source: Source, part: Part) -> list[Json]:
    """With other settings its pods are made anew."""
    metadata = {
        "name": part.object_name,
        "namespace": source.namespace,
        "labels": labels(part.name),
    }
    objects = [_deployment(source, part, metadata)]
    if part.ports:
        spec = {"selector": selector(part.name), "ports": _service_ports(part)}
        objects.append({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    if part.replicas > 1:
        least: Json = {"minAvailable": 1, "selector": {"matchLabels": selector(part.name)}}
        budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget"}
        objects.append(budget | {"metadata": metadata, "spec": least})
    return objects


def _service_ports(part: Part) -> list[Json]:
    numbers = {part.ports[0][0]: part.service_port} if part.service_port else {}
    return [
        {"name": name, "port": numbers.get(name, port), "targetPort": name}
        for name, port in part.ports
    ]


def _deployment(source: Source, part: Part, metadata: Json) -> Json:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    annotations = {FINGERPRINT: source.fingerprint}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": part.replicas,
            "revisionHistoryLimit": 3,
            "strategy": {"type": "Recreate"} if part.alone else rolling,
            "selector": {"matchLabels": selector(part.name)},
            "template": {
                "metadata": {"labels": labels(part.name), "annotations": annotations},
                "spec": _pod(source, part),
            },
        },
    }


def _pod(source: Source, part: Part) -> Json:
    spec = dagster.pod(source.configuration, part.account)
    spec["terminationGracePeriodSeconds"] = _GRACE_SECONDS
    spec["topologySpreadConstraints"] = [_spread(part)]
    made = container(source, part.name, part.resources, part.required, part.optional)
    made |= {"args": ["run", part.name], **_ports(part), **_probes(part)}
    if part.keys:  # which `slipway run` puts into its home
        spec["volumes"] = [*spec["volumes"], dagster.KEYS_VOLUME]
        made["volumeMounts"] = [*made["volumeMounts"], dagster.KEYS_MOUNT]
    return spec | {"containers": [made]}


def container(
    source: Source,
    name: str,
    resources: Resources,
    required: Sequence[str] = (),
    optional: Sequence[str] = (),
) -> Json:
    """Without its arguments; required, optional: keys of the Secret that are its variables."""
    variables = _variables(source)
    made = dagster.container((), resources, {})
    given = [{"name": key, "value": value} for key, value in variables.items()]
    secret = [
        *(_secret(key) for key in required),
        *(_secret(key, optional=True) for key in optional),
    ]
    return {"name": name, "image": IMAGE} | made | {"env": [*made["env"], *given, *secret]}


def _ports(part: Part) -> Json:
    ports = [{"name": name, "containerPort": port} for name, port in part.ports]
    return {"ports": ports} if ports else {}


def _probes(part: Part) -> Json:
    """Imports take seconds, and minutes on a busy node."""
    kind, what = part.probe
    if kind == "exec":  # an interpreter each time: seldom
        ask: Json = {kind: {"command": what.split()}, "timeoutSeconds": 60}
        return {
            "startupProbe": {**ask, "periodSeconds": 15, "failureThreshold": 20},
            "readinessProbe": {**ask, "periodSeconds": 120},
            "livenessProbe": {**ask, "periodSeconds": 120},
        }
    ask = {kind: {"port": part.ports[0][0]}}
    if what:  # MLflow answers only those who call it by its name
        ask[kind] |= {"path": what, "httpHeaders": [{"name": "Host", "value": part.object_name}]}
    return {
        "startupProbe": {**ask, "periodSeconds": 2, "failureThreshold": 120},
        "readinessProbe": {**ask, "periodSeconds": 5, "timeoutSeconds": 3},
        "livenessProbe": {
            **ask,
            "periodSeconds": 20,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
    }


def _variables(source: Source) -> dict[str, str]:
    """Where the parts find each other: what of the settings a cluster has otherwise."""
    platform, features = source.configuration.platform, source.configuration.features
    found = {
        IMAGE_VARIABLE: IMAGE,
        "SLIPWAY_HOST": "0.0.0.0",  # noqa: S104 - of the pod, behind NetworkPolicies
        "SLIPWAY_DAGSTER_URL": f"http://{WEBSERVER}:{platform.dagster.port}",
        "SLIPWAY_CODE_SERVER_HOST": CODE,
        "SLIPWAY_FEATURES_URL": f"http://{TRANSFORMER}:{features.port}",
    }
    found |= {
        "SLIPWAY_CONTROL_PORT": str(CONTROL_TARGET_PORT),
        "SLIPWAY_CONTROL_METRICS_PORT": str(METRICS_PORT),
    }
    if features.store == Features.model_fields["store"].default:
        # Its online values and its registry lie in files of one machine.
        found["SLIPWAY_FEATURE_STORE"] = "feature_store.production.yaml"
    if platform.mlflow.tracking_uri is None:
        found["SLIPWAY_MLFLOW_URL"] = f"http://{MLFLOW}:{platform.mlflow.port}"
    if all(one.target == "kubernetes" for one in source.configuration.environments.values()):
        found["SLIPWAY_TARGET"] = "kubernetes"
    return found


def _secret(key: str, *, optional: bool = False) -> Json:
    reference: Json = {"name": SECRET, "key": key}
    if optional:
        reference["optional"] = True
    return {"name": key, "valueFrom": {"secretKeyRef": reference}}


def _spread(part: Part) -> Json:
    """Over nodes, where there are several."""
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector(part.name)},
    }
