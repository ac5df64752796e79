"""Where the gateway sends requests: a cluster for each model server, and the control API's."""

from pathlib import Path
from typing import Any

from deploy.gateway.limits import circuit_breakers
from serving_config.gateway import Limits

Json = dict[str, Any]

# No model server's: those end in a digest.
CONTROL = "control"
CONTROL_SECONDS = 60
# Requests in flight to the control API: a flood of them takes little from the model servers.
_CONTROL_REQUESTS = 64


def cluster(name: str, port: int, limits: Limits) -> Json:
    """A model server on 127.0.0.1."""
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return _cluster(name, address, limits.max_requests_per_server)


def control_cluster(run: Path) -> Json:
    """The control process, on a UNIX socket that only this user can open."""
    return _cluster(CONTROL, {"pipe": {"path": str(run / "control.sock")}}, _CONTROL_REQUESTS)


def _cluster(name: str, address: Json, most: int) -> Json:
    """Idle connections are given up a second before the server's own 5 s keep-alive ends, so that
    no request meets a connection that is closing.
    """
    http = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "circuit_breakers": circuit_breakers(most),
        "typed_extension_protocol_options": {
            http: {
                "@type": f"type.googleapis.com/{http}",
                "common_http_protocol_options": {"idle_timeout": "4s"},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
