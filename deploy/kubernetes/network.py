"""Who may talk to whom in the platform's namespace: nobody, and then these."""

from typing import Any

from deploy.features import TRANSFORMER
from deploy.kubernetes.parts import CONTROL
from deploy.kubernetes.settings import Source
from deploy.kubernetes.workload import labels, selector
from deploy.manifests.names import PORT, Json, namespace
from deploy.manifests.network import ACCESS_LABEL

# The API server, PostgreSQL, Redis, and HTTPS: registries, object storage, webhooks. Others of
# yours need a policy of their own.
OUTWARD = (443, 6443, 5432, 6379)


def policies(source: Source) -> list[Json]:
    """Of the platform's namespace; those of the environments are theirs."""
    everything: Json = {"podSelector": {}}
    environments = [
        {"namespaceSelector": _is(namespace(one))}
        for one in source.configuration.environments.values()
    ]
    return [
        _policy(source, "default-deny", everything | {"policyTypes": ["Ingress", "Egress"]}),
        _policy(
            source,
            "dns",
            everything | {"egress": [_to_any(*(("UDP", 53), ("TCP", 53)))]},
        ),
        _policy(
            source,
            "within",
            everything | {"ingress": [{"from": [everything]}], "egress": [{"to": [everything]}]},
        ),
        _policy(
            source,
            "outward",
            everything
            | {
                "egress": [
                    _to_any(*(("TCP", port) for port in OUTWARD)),
                    {"to": environments, "ports": [{"protocol": "TCP", "port": PORT}]},
                ]
            },
        ),
        _policy(source, "to-control", _ingress(CONTROL, _gateways(source), "http", "metrics")),
        _policy(
            source,
            "model-servers-to-features",
            _ingress(TRANSFORMER, environments, "http"),
        ),
    ]


def _policy(source: Source, name: str, spec: Json) -> Json:
    types = [kind for kind in ("Ingress", "Egress") if kind.lower() in spec]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": source.namespace, "labels": labels("network")},
        "spec": {"policyTypes": types} | spec,
    }


def _gateways(source: Source) -> list[Json]:
    """Where requests from outside come from: as for the model servers, namespaces with a label."""
    gateway = source.configuration.platform.kubernetes.gateway.partition("/")[0]
    return [
        {"namespaceSelector": _is(gateway)},
        {"namespaceSelector": {"matchLabels": ACCESS_LABEL}},
    ]


def _ingress(part: str, sources: list[Json], *ports: str) -> Json:
    rule = {"from": sources, "ports": [{"protocol": "TCP", "port": port} for port in ports]}
    return {"podSelector": {"matchLabels": selector(part)}, "ingress": [rule]}


def _to_any(*ports: tuple[str, int]) -> dict[str, Any]:
    return {"ports": [{"protocol": protocol, "port": port} for protocol, port in ports]}


def _is(name: str) -> Json:
    return {"matchLabels": {"kubernetes.io/metadata.name": name}}
