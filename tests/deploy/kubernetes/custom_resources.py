"""Required fields of the kinds that custom resource definitions bring: all that is held against
them here, since no schema of theirs is at hand. docs/kubernetes.md names them as unvalidated."""

from collections.abc import Iterator
from typing import Any

# `[]`: of each entry of a list that has some.
REQUIRED = {
    "gateway.networking.k8s.io/v1 Gateway": (
        "spec.gatewayClassName",
        *(f"spec.listeners[].{field}" for field in ("name", "port", "protocol")),
        "spec.listeners[].allowedRoutes.namespaces.selector.matchExpressions[].values",
    ),
    "networking.istio.io/v1 Gateway": (
        "spec.selector",
        *(f"spec.servers[].port.{field}" for field in ("number", "name", "protocol")),
        "spec.servers[].hosts",
    ),
    "security.istio.io/v1 PeerAuthentication": ("spec.mtls.mode",),
    "keda.sh/v1alpha1 ScaledObject": (
        "spec.scaleTargetRef.name",
        "spec.triggers[].type",
        *(f"spec.triggers[].metadata.{name}" for name in ("serverAddress", "query", "threshold")),
    ),
    "monitoring.coreos.com/v1 PodMonitor": (
        "spec.selector",
        "spec.podMetricsEndpoints[].port",
        "spec.podMetricsEndpoints[].relabelings[].targetLabel",
    ),
    "monitoring.coreos.com/v1 PrometheusRule": (
        "spec.groups[].name",
        *(f"spec.groups[].rules[].{field}" for field in ("alert", "expr")),
    ),
}


def missing(item: dict[str, Any], kind: str) -> list[str]:
    """Those that are absent or empty."""
    return [field for field in REQUIRED[kind] if not all(_values(item, field.split(".")))]


def _values(value: Any, path: list[str]) -> Iterator[Any]:
    if not path:
        yield value
        return
    name, listed = path[0].removesuffix("[]"), path[0].endswith("[]")
    inner = value.get(name) if isinstance(value, dict) else None
    for entry in (inner or [None]) if listed else [inner]:
        yield from _values(entry, path[1:])
