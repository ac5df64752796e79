"""Where the gateway sends requests: a cluster for each model server, and the control API's."""

import ipaddress
from pathlib import Path
from typing import Any

from deploy.gateway.limits import circuit_breakers
from serving_config.gateway import Limits

Json = dict[str, Any]

LOOPBACK = "127.0.0.1"
# No model server's: those end in a digest.
CONTROL = "control"
CONTROL_SECONDS = 60
# Requests in flight to the control API: a flood of them takes little from the model servers.
_CONTROL_REQUESTS = 64
# Copies in flight to one model server. Envoy holds the bodies of those that it does not read.
_MIRRORED_REQUESTS = 256
# A restarted container has the same name and another address.
_RESOLVE_SECONDS = "1s"
# More than any body. From here on Envoy would let the client wait for the one who gets the copy.
_MIRRORED_BUFFER_BYTES = 256 << 20


def cluster(name: str, port: int, limits: Limits, host: str = LOOPBACK) -> Json:
    """A model server."""
    return _server(name, host, port, limits.max_requests_per_server)


def mirror_name(name: str) -> str:
    """The cluster of the copies of requests for that model server."""
    return f"{name}-mirror"


def mirror_cluster(name: str, port: int, limits: Limits, host: str = LOOPBACK) -> Json:
    """The same model server for copies, which may hang without anybody noticing."""
    most = min(limits.max_requests_per_server, _MIRRORED_REQUESTS)
    return _server(mirror_name(name), host, port, most) | {
        "per_connection_buffer_limit_bytes": _MIRRORED_BUFFER_BYTES,
        # Without a connection Envoy holds less, so a client with a large body would wait for it.
        "connect_timeout": "0.250s",
    }


def control_cluster(run: Path) -> Json:
    """The control process, on a UNIX socket that only this user can open."""
    return _cluster(CONTROL, {"pipe": {"path": str(run / "control.sock")}}, _CONTROL_REQUESTS)


def _server(name: str, host: str, port: int, most: int) -> Json:
    address = {"socket_address": {"address": host, "port_value": port}}
    made = _cluster(name, address, most)
    if _is_address(host):
        return made
    return made | {
        "type": "STRICT_DNS",
        "dns_refresh_rate": _RESOLVE_SECONDS,
        "dns_failure_refresh_rate": {
            "base_interval": _RESOLVE_SECONDS,
            "max_interval": _RESOLVE_SECONDS,
        },
        "dns_lookup_family": "V4_PREFERRED",
    }


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


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
