"""The cluster's gateway for each kind of it, and the right to write its routes.

The routes are not here, neither those to the models nor the one to /v1: the target writes them all
whenever the ledger changes.
"""

from deploy.kubernetes.settings import Source
from deploy.kubernetes.workload import labels
from deploy.manifests.names import Json, namespace
from serving_config.schema import Environment

_ISTIOD = 15012


def gateway_api(source: Source) -> list[Json]:
    """A Gateway for plain HTTP, open to the routes of Slipway's namespaces."""
    name, where = _gateway(source)
    allowed = [source.namespace, *_environments(source)]
    selector = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": allowed}
    gateway = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": where, "labels": labels("gateway")},
        "spec": {
            "gatewayClassName": "slipway",
            "listeners": [
                {
                    "name": "http",
                    "protocol": "HTTP",
                    "port": 80,
                    "allowedRoutes": {
                        "namespaces": {
                            "from": "Selector",
                            "selector": {"matchExpressions": [selector]},
                        }
                    },
                }
            ],
        },
    }
    return [gateway]


def istio(source: Source) -> list[Json]:
    """A Gateway of Istio's own kind, and what a mesh asks of the platform's namespace."""
    name, where = _gateway(source)
    hosts = list(source.configuration.platform.kubernetes.hostnames) or ["*"]
    gateway = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": where, "labels": labels("gateway")},
        "spec": {
            "selector": {"istio": "ingressgateway"},
            "servers": [
                {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": hosts}
            ],
        },
    }
    return [gateway, *_meshed(source.namespace)]


def istio_in(environment: Environment) -> list[Json]:
    """The same of an environment's namespace."""
    return _meshed(namespace(environment))


def _meshed(where: str) -> list[Json]:
    """mTLS between all pods, and the way of their proxies to istiod."""
    metadata = {"name": "istio", "namespace": where, "labels": labels("gateway")}
    return [
        {
            "apiVersion": "security.istio.io/v1",
            "kind": "PeerAuthentication",
            "metadata": metadata,
            "spec": {"mtls": {"mode": "STRICT"}},
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": metadata,
            "spec": {
                "podSelector": {},
                "policyTypes": ["Egress"],
                "egress": [{"ports": [{"protocol": "TCP", "port": _ISTIOD}]}],
            },
        },
    ]


def _gateway(source: Source) -> tuple[str, str]:
    """Its name and its namespace."""
    where, name = source.configuration.platform.kubernetes.gateway.split("/")
    return name, where


def _environments(source: Source) -> list[str]:
    return [namespace(one) for one in source.configuration.environments.values()]
