"""Who reaches the model servers, and whom they reach."""

from collections.abc import Iterable
from urllib.parse import urlsplit

from deploy.features import TRANSFORMER
from deploy.manifests.containers import fetches
from deploy.manifests.identity import metadata as of_environment
from deploy.manifests.names import PORT, Json, selector
from serving_config.schema import Configuration, Environment

# A namespace with this label may send requests: that of a gateway's pods, where it is another than
# the Gateway's own (Envoy Gateway's, say), or of a Prometheus.
ACCESS_LABEL = {"slipway.dev/access": "model-servers"}
_SERVERS = {"app.kubernetes.io/component": "model-server"}
_NAMESPACE = "kubernetes.io/metadata.name"  # which Kubernetes sets on each of them
_INGRESS_NGINX = "ingress-nginx"  # where its own manifests and its chart put it
# KServe's requests come by Knative's activator and by its ingress.
_KNATIVE = ("knative-serving", "kourier-system", "istio-system")
_PORTS = {"http": 80, "https": 443, "redis": 6379, "rediss": 6379}


def service(metadata: Json) -> Json:
    """One version's address in the cluster."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "type": "ClusterIP",
            "selector": selector(metadata["name"]),
            "ports": [
                {
                    "name": "http",
                    "port": PORT,
                    "targetPort": "http",
                    "protocol": "TCP",
                    "appProtocol": "http",
                }
            ],
        },
    }


def network_policies(configuration: Configuration, environment: Environment) -> list[Json]:
    """Nothing in and nothing out, but for what the environment's model servers need."""
    ingress = _ingress(configuration, environment)
    egress = _egress(configuration, environment)
    return [
        _policy(environment, "default-deny", {}, ["Ingress", "Egress"]),
        _policy(environment, "requests-to-model-servers", _SERVERS, ["Ingress"], ingress=ingress),
        _policy(environment, "model-servers-outward", _SERVERS, ["Egress"], egress=egress),
    ]


def _policy(
    environment: Environment, name: str, pods: Json, types: list[str], **rules: list[Json]
) -> Json:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": of_environment(environment, name),
        "spec": {
            "podSelector": {"matchLabels": pods} if pods else {},
            "policyTypes": types,
            **rules,
        },
    }


def _ingress(configuration: Configuration, environment: Environment) -> list[Json]:
    """The gateway and the platform; probes come from the node, which no policy keeps out."""
    cluster = configuration.platform.kubernetes
    names = {cluster.namespace, cluster.gateway.partition("/")[0]}
    names |= {_INGRESS_NGINX} if cluster.traffic == "nginx" else set()
    rule: Json = {
        "from": [_named(names), {"namespaceSelector": {"matchLabels": ACCESS_LABEL}}],
        "ports": [_port(PORT)],
    }
    if environment.target == "kserve":  # Knative's sidecar answers on ports of its own
        rule["from"].append(_named(_KNATIVE))
        del rule["ports"]
    return [rule]


def _named(namespaces: Iterable[str]) -> Json:
    names = {"key": _NAMESPACE, "operator": "In", "values": sorted(namespaces)}
    return {"namespaceSelector": {"matchExpressions": [names]}}


def _egress(configuration: Configuration, environment: Environment) -> list[Json]:
    """DNS wherever it is (some clusters have it on each node); the feature transformer; and the
    ports, on any host, of what the settings name by URL. A store at an endpoint of its own
    (AWS_ENDPOINT_URL) on another port than 443 needs a policy beside these."""
    platform = configuration.platform
    log = environment.prediction_log
    urls = [environment.cache_url, log.cloud_events_url if log.enabled else None]
    if fetches(configuration):
        urls.append(platform.artifacts.url)
    transformer = _named([platform.kubernetes.namespace]) | {
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": TRANSFORMER}}
    }
    rules: list[Json] = [
        {"ports": [_port(53, "UDP"), _port(53)]},
        {"to": [transformer], "ports": [_port(configuration.features.port)]},
    ]
    if ports := sorted({_port_of(url) for url in urls if url is not None}):
        rules.append({"ports": [_port(port) for port in ports]})
    return rules


def _port_of(url: str) -> int:
    """443 where the scheme is a store's (s3, gs, abfs): they are asked by HTTPS."""
    parts = urlsplit(url)
    return parts.port or _PORTS.get(parts.scheme, 443)


def _port(number: int, protocol: str = "TCP") -> Json:
    return {"protocol": protocol, "port": number}
