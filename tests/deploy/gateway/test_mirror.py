"""Copies of live requests: what the candidate gets, and that no client notices."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import httpx
import msgspec
import pytest
from scipy.stats import binom

from deploy.events import State
from deploy.gateway.envoy import Counts, GatewayAdmin, write_clusters, write_routes
from deploy.gateway.routes import Routing, cluster_name
from deploy.home import Home
from deploy.processes import free_port
from serving_config.gateway import Gateway as Settings
from serving_config.gateway import Limits, RateLimit
from tests.deploy.gateway.fast import Server, answering, ask, hanging, request
from tests.deploy.gateway.running import ADMIN_IS_ASKED_TOO_EARLY, running_envoy, until
from tests.deploy.releases import live

pytestmark = ADMIN_IS_ASKED_TOO_EARLY

STABLE, SHADOW = (cluster_name("staging", "iris", live(version)) for version in (1, 2))
BURST = 6
LIMITS = Limits(max_requests_per_server=20, per_key=RateLimit(requests_per_second=1, burst=BURST))


def routing(mirror: int) -> Routing:
    lives = (live(1), msgspec.structs.replace(live(2, 0), mirror=mirror))
    state = State("staging", "iris", 1, lives)
    return Routing(("staging",), "staging", ("iris",), "iris", (state,))


@dataclass(frozen=True)
class Gateway:
    home: Home
    admin: GatewayAdmin
    client: httpx.Client
    stable: Server

    @property
    def port(self) -> int:
        assert self.client.base_url.port is not None
        return self.client.base_url.port

    def mirror(self, percent: int) -> None:
        self.admin.wait_for("rds", write_routes(self.home, routing(percent)))

    def copy_to(self, port: int) -> None:
        ports = {STABLE: self.stable.port, SHADOW: port}
        self.admin.wait_for("cds", write_clusters(self.home, ports, LIMITS))

    def counts(self) -> Counts:
        return self.admin.cluster_counts([SHADOW])[SHADOW]


@pytest.fixture(scope="module")
def gateway(home: Home) -> Iterator[Gateway]:
    settings = Settings(port=free_port(), limits=LIMITS)
    with ExitStack() as stack:
        stable = stack.enter_context(answering("1", keep=True))
        ports = {STABLE: stable.port, SHADOW: free_port()}
        admin = stack.enter_context(running_envoy(home, settings, routing(100), ports, 64 << 20))
        address = f"http://127.0.0.1:{settings.port}"
        client = stack.enter_context(httpx.Client(base_url=address, timeout=30))
        yield Gateway(home, admin, client, stable)


@pytest.fixture
def shadow(gateway: Gateway) -> Iterator[Server]:
    """A candidate that gets a copy of every request."""
    with answering("2", keep=True) as server:
        gateway.copy_to(server.port)
        gateway.mirror(100)
        gateway.stable.heads.clear()
        yield server


def headers(head: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in head.strip().split("\r\n")[1:])


def test_a_copy_is_the_request_with_its_id_and_both_servers_know_of_it(
    gateway: Gateway, shadow: Server
) -> None:
    said = {"x-request-id": "mine-1", "x-api-key": "k", "x-slipway-compare": "no"}
    response = gateway.client.post("/models/iris/predict?x=1", content="x" * 20, headers=said)
    assert response.headers["x-model-version"] == "1"
    until(lambda: shadow.heads)
    (original,), (copy,) = gateway.stable.heads, shadow.heads
    assert copy.startswith("POST /predict?x=1 HTTP/1.1\r\n")
    assert shadow.bodies[-1] == 20
    for head in map(headers, (original, copy)):
        assert head["x-request-id"] == "mine-1"
        assert head["x-slipway-compare"] == "1"
        assert head["x-api-key"] == "k"
    assert headers(copy)["host"] == headers(original)["host"]
    # A client cannot say of itself that it is a copy: keys.py and prediction_log.py of the model
    # server rely on it.
    assert headers(copy)["x-slipway-copy"] == "1"
    assert "x-slipway-copy" not in headers(original)
    assert headers(copy)["x-forwarded-for"].split(",")[0] == "127.0.0.1"
    assert headers(copy)["x-envoy-internal"] == "true"


@pytest.mark.parametrize(
    "pin", [{"x-model-version": "1"}, {"x-model-version": "2"}, {"path": "/models/iris/versions/1"}]
)
def test_a_request_that_names_its_version_is_not_copied_nor_compared(
    pin: dict[str, str], gateway: Gateway, shadow: Server
) -> None:
    path = f"{pin.pop('path', '')}/predict"
    forged = {"x-slipway-compare": "1", "x-slipway-copy": "1", "x-envoy-internal": "true"}
    response = gateway.client.get(path, headers=pin | forged)
    asked = gateway.stable if response.headers["x-model-version"] == "1" else shadow
    assert not {*forged} & set(headers(asked.heads[-1]))
    # What comes next is copied, so that a copy of the first would be there by now.
    asked_before = len(shadow.heads)
    gateway.client.get("/predict", headers={"x-request-id": "next"})
    until(lambda: len(shadow.heads) > asked_before)
    assert len(shadow.heads) == asked_before + 1
    assert headers(shadow.heads[-1])["x-request-id"] == "next"


def test_without_a_mirror_no_client_can_have_its_request_compared(
    gateway: Gateway, shadow: Server
) -> None:
    gateway.mirror(0)
    gateway.client.get("/predict", headers={"x-slipway-compare": "1"})
    assert "x-slipway-compare" not in headers(gateway.stable.heads[-1])
    assert not shadow.heads


def test_copies_are_a_share_of_the_requests_and_count_for_the_candidate(
    gateway: Gateway, shadow: Server
) -> None:
    gateway.mirror(20)
    before = gateway.counts()
    ask(gateway.port, [request()] * 2000)
    low, high = binom.interval(1 - 1e-6, 2000, 0.2)
    until(lambda: gateway.counts().requests - before.requests == len(shadow.heads))
    assert low <= len(shadow.heads) <= high
    # Nothing is copied twice, and nothing waits.
    ids = [headers(head)["x-request-id"] for head in shadow.heads]
    assert len(set(ids)) == len(ids)
    assert gateway.counts()[1:] == before[1:]


def test_a_copy_takes_nothing_from_the_rate_limits(gateway: Gateway, shadow: Server) -> None:
    requests = [request(x_api_key="limited")] * BURST
    assert set(ask(gateway.port, requests)) == {"1"}
    until(lambda: len(shadow.heads) == BURST)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_is_copied_whole(chunked: bool, gateway: Gateway, shadow: Server) -> None:
    size = 8 << 20
    body = (b"x" * (size // 8) for _ in range(8)) if chunked else b"x" * size
    response = gateway.client.post("/predict", content=body, headers={"x-request-id": "large"})
    assert response.headers["x-model-version"] == "1"
    until(lambda: shadow.bodies)
    assert shadow.bodies[-1] == gateway.stable.bodies[-1] >= size


@contextmanager
def nobody() -> Iterator[int]:
    """Refuses connections."""
    yield free_port()


@contextmanager
def hangs() -> Iterator[int]:
    """Reads, and never answers."""
    with hanging() as server:
        yield server.port


@contextmanager
def unread() -> Iterator[int]:
    """Takes connections, and has little room for what it does not read."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        server.bind(("127.0.0.1", 0))
        server.listen(512)
        yield server.getsockname()[1]


@contextmanager
def fails() -> Iterator[int]:
    """Answers 500."""
    with answering("2", "500 Internal Server Error") as server:
        yield server.port


@pytest.mark.parametrize("candidate", [nobody, hangs, unread, fails])
def test_no_client_notices_what_a_candidate_does_with_copies(
    candidate: Callable[[], AbstractContextManager[int]], gateway: Gateway
) -> None:
    """Also with large bodies, and with more copies in flight than the candidate may have."""
    gateway.mirror(100)
    with candidate() as port:
        gateway.copy_to(port)
        started = time.monotonic()
        for _ in range(3):
            assert gateway.client.post("/predict", content=b"x" * (16 << 20)).status_code == 200
        assert set(ask(gateway.port, [request()] * 200)) == {"1"}
        assert time.monotonic() - started < 15
        # Nothing of it stays behind for those who come after.
        assert gateway.admin.active_requests(STABLE) == 0


@pytest.mark.parametrize("candidate", [nobody, fails])
def test_what_a_candidate_fails_with_counts_against_it(
    candidate: Callable[[], AbstractContextManager[int]], gateway: Gateway
) -> None:
    gateway.mirror(100)
    with candidate() as port:
        gateway.copy_to(port)
        ask(gateway.port, [request()])
        until(lambda: gateway.counts().errors)
        before = gateway.counts()
        ask(gateway.port, [request()] * 10)
        until(lambda: gateway.counts().requests == before.requests + 10)
        assert gateway.counts().errors == before.errors + 10
