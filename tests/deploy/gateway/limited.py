"""A real Envoy with small limits, and clients that each have an address of their own.

Every address below 127.0.0.0/8 is this machine, and has a bucket of its own.
"""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from deploy.events import State
from deploy.gateway.envoy import GatewayAdmin
from deploy.gateway.routes import Routing, cluster_name
from deploy.home import Home
from deploy.processes import free_port
from serving_config.gateway import Gateway, Limits, RateLimit
from tests.deploy.gateway.running import running_envoy, until
from tests.deploy.gateway.upstreams import Upstream, upstream
from tests.deploy.releases import live

MAX_BODY = 100_000
LIMITS = Limits(
    per_key=RateLimit(requests_per_second=1, burst=5),
    per_address=RateLimit(requests_per_second=2, burst=30),
    max_connections=40,
    max_requests_per_server=3,
    max_header_kib=8,
    max_headers=20,
    headers_timeout_seconds=1,
    request_timeout_seconds=1.5,
    response_timeout_seconds=2,
)
SERVERS = {
    model: cluster_name("staging", model, live(2, model=model)) for model in ("iris", "rose")
}
ROUTING = Routing(
    environments=("staging",),
    default_environment="staging",
    models=tuple(SERVERS),
    default_model="iris",
    states=tuple(State("staging", model, 1, (live(2, model=model),)) for model in SERVERS),
    response_timeout=LIMITS.response_timeout_seconds,
)
_addresses = (f"127.0.1.{number}" for number in count(1))


@dataclass(frozen=True)
class Running:
    home: Home
    port: int
    admin: GatewayAdmin
    iris: Upstream

    @contextmanager
    def client(self, address: str | None = None) -> Iterator[httpx.Client]:
        """A client with an address of its own."""
        transport = httpx.HTTPTransport(local_address=address or next(_addresses))
        url = f"http://127.0.0.1:{self.port}"
        with httpx.Client(transport=transport, base_url=url, timeout=30) as client:
            yield client

    @contextmanager
    def connection(self, data: bytes) -> Iterator[socket.socket]:
        """A connection on which something was sent."""
        source = (next(_addresses), 0)
        with socket.create_connection(("127.0.0.1", self.port), 30, source) as connection:
            connection.sendall(data)
            yield connection

    def said(self, data: bytes) -> httpx.Response:
        """What the gateway answers to some bytes."""
        with self.connection(data) as connection:
            return answer(connection)

    @property
    def log(self) -> Path:
        return self.home.logs / "gateway-access.log"

    def logged(self, request_id: str) -> dict[str, Any]:
        """The one line about a request."""

        def lines() -> list[dict[str, Any]]:
            parsed = [json.loads(line) for line in self.log.read_text().splitlines()]
            return [line for line in parsed if line["request_id"] == request_id]

        until(lines)
        (line,) = lines()
        return line


def answer(connection: socket.socket) -> httpx.Response:
    """One answer with a body."""
    with connection.makefile("rb") as stream:
        status = int(stream.readline().split()[1])
        headers = []
        while line := stream.readline().decode().strip():
            headers.append(tuple(line.split(": ", 1)))
        body = stream.read(int(dict(headers)["content-length"]))
    return httpx.Response(status, headers=headers, content=body)


@contextmanager
def limited_gateway(home: Home, trusted_proxies: int = 0) -> Iterator[Running]:
    """In front of two models with a server each."""
    settings = Gateway(port=free_port(), limits=LIMITS, trusted_proxies=trusted_proxies)
    with ExitStack() as stack:
        servers = {name: stack.enter_context(upstream(name)) for name in SERVERS.values()}
        ports = {name: server.port for name, server in servers.items()}
        admin = stack.enter_context(running_envoy(home, settings, ROUTING, ports, MAX_BODY))
        yield Running(home, settings.port, admin, servers[SERVERS["iris"]])
