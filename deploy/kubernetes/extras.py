"""Small components: KEDA for the feature transformer, and the way to Ray."""

from deploy.features import TRANSFORMER
from deploy.kubernetes.settings import Source
from deploy.kubernetes.workload import labels
from deploy.manifests.names import Json
from deploy.monitoring.finding_rules import JOB

# One core takes about 1,400 look-ups of one entity a second (docs/benchmarks.md); a pod asks for a
# quarter of one, and is to be two thirds busy.
LOOKUPS_PER_POD = 230
_PROMETHEUS = "http://prometheus-operated.monitoring.svc:9090"
_MOST = 10
_RAY_PORTS = (8265,)


def keda(source: Source) -> list[Json]:
    """The feature transformer's pods by its rate of requests, as Prometheus knows it.

    Model servers come and go with versions: their HorizontalPodAutoscalers are the target's."""
    rate = f'slipway_features_requests_total{{job="{JOB}",part="{TRANSFORMER}"}}'
    trigger = {
        "type": "prometheus",
        "metadata": {
            "serverAddress": _PROMETHEUS,
            "query": f"sum(rate({rate}[1m]))",
            "threshold": str(LOOKUPS_PER_POD),
            # Else a Prometheus that lost its targets looks like no traffic.
            "ignoreNullValues": "false",
        },
    }
    return [
        {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": _metadata(source, TRANSFORMER),
            "spec": {
                "scaleTargetRef": {"name": TRANSFORMER},
                "minReplicaCount": 2,
                "maxReplicaCount": _MOST,
                "fallback": {"failureThreshold": 3, "replicas": 4},
                "triggers": [trigger],
            },
        }
    ]


def kuberay(source: Source) -> list[Json]:
    """The operator's way to the heads of Ray clusters, by whose API it submits the job."""
    return [
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": _metadata(source, "kuberay"),
            "spec": {
                "podSelector": {"matchLabels": {"ray.io/node-type": "head"}},
                "policyTypes": ["Ingress"],
                "ingress": [{"ports": [{"protocol": "TCP", "port": port} for port in _RAY_PORTS]}],
            },
        }
    ]


def _metadata(source: Source, name: str) -> Json:
    return {"name": name, "namespace": source.namespace, "labels": labels("component")}
