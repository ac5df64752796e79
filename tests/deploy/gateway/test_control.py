"""The way to the control API: `/v1`, to a UNIX socket, whatever else a request says."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import httpx
import pytest

from deploy.events import State
from deploy.gateway.envoy import GatewayAdmin, write_clusters, write_routes
from deploy.gateway.routes import Routing, cluster_name
from deploy.home import Home
from deploy.processes import free_port
from serving_config.gateway import Gateway as Settings
from serving_config.gateway import Limits
from tests.deploy.gateway.fast import Server, answering, hanging, request
from tests.deploy.gateway.limited import answer
from tests.deploy.gateway.running import ADMIN_IS_ASKED_TOO_EARLY, problem, running_envoy
from tests.deploy.releases import live

pytestmark = ADMIN_IS_ASKED_TOO_EARLY

IRIS = cluster_name("staging", "iris", live(1))
ROUTING = Routing(
    ("staging",), "staging", ("iris",), "iris", (State("staging", "iris", 1, (live(1),)),)
)
DOWN = "the control API does not answer; it may be starting anew: try again"


@dataclass(frozen=True)
class Gateway:
    home: Home
    admin: GatewayAdmin
    client: httpx.Client
    iris: Server


@pytest.fixture(scope="module")
def gateway(home: Home) -> Iterator[Gateway]:
    settings = Settings(port=free_port())
    with ExitStack() as stack:
        iris = stack.enter_context(answering("iris", keep=True))
        admin = stack.enter_context(
            running_envoy(home, settings, ROUTING, {IRIS: iris.port}, max_body_bytes=1000)
        )
        address = f"http://127.0.0.1:{settings.port}"
        client = stack.enter_context(httpx.Client(base_url=address, timeout=30))
        yield Gateway(home, admin, client, iris)


@pytest.fixture
def control(gateway: Gateway) -> Iterator[Server]:
    path = gateway.home.run / "control.sock"
    try:
        with answering("control", keep=True, path=path) as server:
            yield server
    finally:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/traffic-split?model=iris", "/v1/models/iris"])
@pytest.mark.parametrize("said", [{}, {"x-environment": "nowhere"}, {"x-model-version": "9"}])
def test_the_control_api_gets_its_path_as_it_was_asked(
    path: str, said: dict[str, str], gateway: Gateway, control: Server
) -> None:
    forged = {"x-forwarded-for": "192.0.2.1", "x-request-id": "mine-1", "host": "example.org"}
    response = gateway.client.post(path, headers=said | forged, content="{}")
    assert response.headers["x-model-version"] == "control"
    assert response.headers["x-request-id"] == "mine-1"
    assert "x-environment" not in response.headers
    (head,) = control.heads
    assert head.startswith(f"POST {path} HTTP/1.1\r\n")
    assert "x-forwarded-for: 127.0.0.1\r\n" in head
    assert "x-request-id: mine-1\r\n" in head


def test_only_v1_is_the_control_api_s(gateway: Gateway, control: Server) -> None:
    for path in ("/v1x", "/v2/models", "/models/iris/v1/x"):
        assert gateway.client.get(path).headers["x-model-version"] == "iris"
    assert not control.heads


def test_a_control_process_that_is_down_is_a_503_that_says_so_and_no_model_is_asked(
    gateway: Gateway,
) -> None:
    asked = len(gateway.iris.heads)
    for path in ("/v1", "/v1/traffic-split"):
        response = gateway.client.get(path)
        assert problem(response, 503)["detail"] == DOWN
        assert response.headers["retry-after"] == "1"
    assert len(gateway.iris.heads) == asked


def test_a_model_server_that_is_down_is_not_taken_for_the_control_api(gateway: Gateway) -> None:
    ports = {IRIS: free_port()}
    gateway.admin.wait_for("cds", write_clusters(gateway.home, ports, Limits()))
    try:
        detail = problem(gateway.client.get("/models/iris/v1/x"), 503)["detail"]
        assert detail.startswith("the model server does not answer")
    finally:
        ports = {IRIS: gateway.iris.port}
        gateway.admin.wait_for("cds", write_clusters(gateway.home, ports, Limits()))


def test_a_body_that_no_model_would_get_the_control_api_does_not_get_either(
    gateway: Gateway, control: Server
) -> None:
    problem(gateway.client.post("/v1/x", content="x" * 1001), 413)
    assert not control.heads


def test_a_flood_of_requests_to_a_control_api_that_hangs_does_no_harm_to_predictions(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.gateway.routes.CONTROL_SECONDS", 1)
    gateway.admin.wait_for("rds", write_routes(gateway.home, ROUTING))
    path = gateway.home.run / "control.sock"
    address = ("127.0.0.1", gateway.client.base_url.port)
    try:
        with hanging(path), ExitStack() as stack:
            flood = [stack.enter_context(socket.create_connection(address, 30)) for _ in range(100)]
            for connection in flood:
                connection.sendall(request("/v1/x"))
            for _ in range(50):
                assert gateway.client.get("/predict").status_code == 200
            answers = [answer(connection) for connection in flood]
    finally:
        path.unlink(missing_ok=True)
    assert {said.status_code: problem(said, said.status_code)["detail"] for said in answers} == {
        503: "the control API has too much to do: try again",
        504: "the control API gave no answer within 60 s",
    }
