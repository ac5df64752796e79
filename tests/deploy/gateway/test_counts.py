"""What Envoy counts of one server is what its clients have seen."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import httpx
import pytest

from deploy.events import State
from deploy.gateway.envoy import Counts, GatewayAdmin, write_clusters
from deploy.gateway.routes import Routing, cluster_name
from deploy.home import Home
from deploy.processes import free_port
from serving_config.gateway import Gateway as Settings
from serving_config.gateway import Limits
from tests.deploy.gateway.fast import answering
from tests.deploy.gateway.running import ADMIN_IS_ASKED_TOO_EARLY, running_envoy, until
from tests.deploy.gateway.upstreams import upstream
from tests.deploy.releases import live

pytestmark = ADMIN_IS_ASKED_TOO_EARLY

IRIS, OTHER = (cluster_name("staging", "iris", live(version)) for version in (1, 2))
ROUTING = Routing(
    ("staging",),
    "staging",
    ("iris",),
    "iris",
    (State("staging", "iris", 1, (live(1),)),),
    response_timeout=0.3,
)


@dataclass(frozen=True)
class Gateway:
    home: Home
    admin: GatewayAdmin
    client: httpx.Client

    def counts(self) -> Counts:
        return self.admin.cluster_counts([IRIS])[IRIS]

    def serve(self, ports: dict[str, int]) -> None:
        self.admin.wait_for("cds", write_clusters(self.home, ports, Limits()))


@pytest.fixture(scope="module")
def gateway(home: Home) -> Iterator[Gateway]:
    settings = Settings(port=free_port())
    with ExitStack() as stack:
        admin = stack.enter_context(running_envoy(home, settings, ROUTING, {}))
        address = f"http://127.0.0.1:{settings.port}"
        client = stack.enter_context(httpx.Client(base_url=address, timeout=30))
        yield Gateway(home, admin, client)


@contextmanager
def saying(answer: bytes) -> Iterator[int]:
    """Reads a request, says that, and closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(answer)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextmanager
def fast(status: str) -> Iterator[int]:
    with answering("1", status) as server:
        yield server.port


@contextmanager
def slow() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def nobody() -> Iterator[int]:
    yield free_port()


@pytest.mark.parametrize(
    ("server", "status", "counted"),
    [
        (partial(fast, "200 OK"), 200, Counts(3, 0, 0)),
        (partial(fast, "422 Unprocessable Content"), 422, Counts(3, 0, 3)),
        (partial(fast, "500 Internal Server Error"), 500, Counts(3, 3, 0)),
        (nobody, 503, Counts(3, 3, 0)),
        (partial(saying, b""), 503, Counts(3, 3, 0)),
        (partial(saying, b"HTTP/1.1 200 OK\r\ncontent-le"), 502, Counts(3, 3, 0)),
        (partial(saying, b"what?\r\n\r\n"), 502, Counts(3, 3, 0)),
        (slow, 504, Counts(3, 3, 0)),
    ],
)
def test_what_a_client_saw_is_counted_once_whoever_failed(
    server: Callable[[], AbstractContextManager[int]],
    status: int,
    counted: Counts,
    gateway: Gateway,
) -> None:
    with server() as port:
        gateway.serve({IRIS: port})
        before = gateway.counts()
        assert [gateway.client.get("/predict").status_code for _ in range(3)] == [status] * 3
        now = gateway.counts()
    # A cluster on another port begins anew, with all but the number of its requests.
    assert now.requests - before.requests == counted.requests
    assert now[1:] == counted[1:]


def test_a_client_that_goes_away_is_no_error_of_the_server(gateway: Gateway) -> None:
    with upstream("1") as server:
        gateway.serve({IRIS: server.port})
        before = gateway.counts()
        address = ("127.0.0.1", gateway.client.base_url.port)
        with socket.create_connection(address) as connection:
            connection.sendall(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
            assert server.waiting.wait(10)
        until(lambda: gateway.admin.active_requests(IRIS) == 0)
        assert gateway.counts() == before
        server.release.set()


def test_a_release_of_another_version_leaves_the_counts_alone(gateway: Gateway) -> None:
    with answering("1", "500 Internal Server Error") as server:
        gateway.serve({IRIS: server.port})
        gateway.client.get("/predict")
        before = gateway.counts()
        assert before.errors == 1
        gateway.serve({IRIS: server.port, OTHER: server.port})
        counts = gateway.admin.cluster_counts([IRIS, OTHER, "iris-9-staging-00000000"])
        assert counts == {IRIS: before, OTHER: Counts(0, 0, 0)}
        gateway.serve({IRIS: server.port})
        gateway.client.get("/predict")
        assert gateway.counts() == Counts(before.requests + 1, 2, 0)
