"""The objects of one live version of a model: its Deployment, and what belongs to it."""

import math
from copy import deepcopy

from deploy.events import Live
from deploy.manifests.autoscaling import autoscaler, disruption_budget
from deploy.manifests.containers import (
    DRAIN_SECONDS,
    STOP_SECONDS,
    fetch,
    fetches,
    server,
    volumes,
)
from deploy.manifests.identity import ACCOUNT, pod_security
from deploy.manifests.names import Json, labels, namespace, selector, server_name
from deploy.manifests.network import service
from serving_config.schema import Configuration

# A pod counts as available once it has been ready for so long.
_MIN_READY_SECONDS = 2


def server_objects(
    configuration: Configuration, environment: str, model: str, live: Live
) -> list[Json]:
    """Deployment, Service, HorizontalPodAutoscaler and PodDisruptionBudget of one live version.

    KeyError for an unknown environment, ValueError where no pod could get the Bento. How many
    pods there are is not in the Deployment: that is the autoscaler's, also when this is applied
    again.
    """
    settings = configuration.environments[environment]
    metadata = {
        "name": server_name(environment, model, live),
        "namespace": namespace(settings),
        "labels": labels(environment, model, live),
    }
    is_asked = live.weight > 0 or live.mirror > 0
    objects = [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata | {"annotations": annotations(live)},
            "spec": _deployment_spec(configuration, environment, model, live),
        },
        service(metadata),
        autoscaler(metadata, settings.kubernetes.replicas, is_asked=is_asked),
        disruption_budget(metadata),
    ]
    return [deepcopy(item) for item in objects]  # so that who changes one changes no other


def annotations(live: Live) -> Json:
    """What exactly is served, by the ledger."""
    return {
        "slipway.dev/bento": live.bento,
        "slipway.dev/bento-digest": live.bento_digest,
        "slipway.dev/onnx-sha256": live.onnx_sha256,
        "slipway.dev/certificate-sha256": live.certificate_sha256,
    }


def pod_spec(configuration: Configuration, environment: str, model: str, live: Live) -> Json:
    """The pod of one version, without rights and without a token."""
    settings = configuration.environments[environment]
    spec: Json = {
        "serviceAccountName": ACCOUNT,
        "automountServiceAccountToken": False,
        # Else a variable of each Service of the namespace, of which some would look like ours.
        "enableServiceLinks": False,
        "securityContext": pod_security(),
        "containers": [server(configuration, settings, model, live)],
        "volumes": volumes(configuration, settings),
    }
    if fetches(configuration):
        spec["initContainers"] = [fetch(configuration, live)]
    if (secret := configuration.platform.kubernetes.image_pull_secret) is not None:
        spec["imagePullSecrets"] = [{"name": secret}]
    return spec


def _deployment_spec(
    configuration: Configuration, environment: str, model: str, live: Live
) -> Json:
    settings = configuration.environments[environment]
    selected = selector(server_name(environment, model, live))
    pod = pod_spec(configuration, environment, model, live)
    pod["terminationGracePeriodSeconds"] = math.ceil(
        STOP_SECONDS + DRAIN_SECONDS + settings.drain_timeout_seconds
    )
    pod["topologySpreadConstraints"] = [
        _spread(key, selected) for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    return {
        "selector": {"matchLabels": selected},
        "minReadySeconds": _MIN_READY_SECONDS,
        "progressDeadlineSeconds": math.ceil(settings.ready_timeout_seconds) + _MIN_READY_SECONDS,
        "revisionHistoryLimit": 2,
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
        },
        "template": {"metadata": {"labels": labels(environment, model, live)}, "spec": pod},
    }


def _spread(key: str, selected: Json) -> Json:
    """Over nodes and zones as far as there are any: one that fails takes few pods with it."""
    return {
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selected},
    }
