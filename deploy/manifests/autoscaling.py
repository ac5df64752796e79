"""How many pods a live version has, and how many of them may be taken away at once."""

from deploy.manifests.names import Json, selector
from serving_config.kubernetes import Replicas

# What was needed within so long is kept.
_CALM_SECONDS = 300


def autoscaler(metadata: Json, replicas: Replicas, *, is_asked: bool) -> Json:
    """By the CPU that pods take of what they requested; where nobody asks, the minimum stays."""
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata,
        "spec": {
            "scaleTargetRef": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": metadata["name"],
            },
            "minReplicas": replicas.minimum,
            "maxReplicas": replicas.maximum if is_asked else replicas.minimum,
            "metrics": [_cpu(replicas.cpu_percent)],
            "behavior": {"scaleUp": _scale_up(), "scaleDown": _scale_down()},
        },
    }


def _cpu(percent: int) -> Json:
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def _scale_up() -> Json:
    """At most twice as many, or two more, each 30 seconds: a start takes some CPU itself."""
    return {
        "stabilizationWindowSeconds": 0,
        "selectPolicy": "Max",
        "policies": [
            {"type": "Percent", "value": 100, "periodSeconds": 30},
            {"type": "Pods", "value": 2, "periodSeconds": 30},
        ],
    }


def _scale_down() -> Json:
    """A quarter a minute."""
    return {
        "stabilizationWindowSeconds": _CALM_SECONDS,
        "policies": [{"type": "Percent", "value": 25, "periodSeconds": 60}],
    }


def disruption_budget(metadata: Json) -> Json:
    """Whoever drains nodes takes one pod at a time; `maxUnavailable`, so that one replica blocks
    nobody. A pod that is not ready anyway never does."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata,
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": selector(metadata["name"])},
        },
    }
