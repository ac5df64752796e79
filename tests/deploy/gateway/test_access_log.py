"""What a real Envoy writes down about a request, and what it does not."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from deploy.home import Home
from deploy.logs import rotate
from tests.deploy.gateway.limited import SERVERS, Running, limited_gateway
from tests.deploy.gateway.running import ADMIN_IS_ASKED_TOO_EARLY

pytestmark = ADMIN_IS_ASKED_TOO_EARLY


@pytest.fixture(scope="module")
def gateway(home: Home) -> Iterator[Running]:
    with limited_gateway(home) as running:
        yield running


def test_a_request_is_logged_as_json_without_what_is_secret(gateway: Running) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {
        "x-api-key": "slipway_never-logged",
        "authorization": "Bearer slipway_never-logged",
        "traceparent": trace,
        "user-agent": 'a"\\' + "b" * 300,
    }
    with gateway.client("127.0.0.78") as client:
        response = client.post("/models/rose/predict?k=never-logged", headers=headers, content="x")
    assert response.json()["headers"]["traceparent"] == trace
    line = gateway.logged(response.headers["x-request-id"])
    assert line.pop("time").endswith("Z")
    assert line.pop("duration_ms") >= 0
    assert line.pop("user_agent") == 'a"\\' + "b" * 97
    assert line.pop("response_bytes") == len(response.content)
    assert line == {
        "request_id": response.headers["x-request-id"],
        "traceparent": trace,
        "client": "127.0.0.78",
        "method": "POST",
        "path": "/predict",
        "status": 200,
        "flags": "-",
        "details": "via_upstream",
        "request_bytes": 1,
        "environment": "staging",
        "version": SERVERS["rose"],
        "server": SERVERS["rose"],
    }
    for log in gateway.home.logs.iterdir():
        assert "never-logged" not in log.read_text()
    for page in ("/config_dump?include_eds", "/stats", "/clusters", "/listeners"):
        assert "never-logged" not in gateway.admin._get(page)


def test_what_the_gateway_refuses_is_logged_and_says_why(gateway: Running) -> None:
    with gateway.client() as client:
        response = client.get("/models/none/predict", headers={"x-request-id": "mine-7"})
    assert response.status_code == 404
    line = gateway.logged("mine-7")
    assert (line["status"], line["details"], line["version"]) == (404, "direct_response", None)


def test_the_log_goes_on_from_empty_after_a_rotation(gateway: Running) -> None:
    with gateway.client() as client:
        gateway.logged(client.get("/predict").headers["x-request-id"])
        rotate(gateway.home.logs, max_bytes=1)
        line = gateway.logged(client.get("/predict").headers["x-request-id"])
    assert line["status"] == 200
    assert "\0" not in gateway.log.read_text()


def test_behind_a_trusted_proxy_the_client_is_whom_the_proxy_names() -> None:
    with (
        TemporaryDirectory(prefix="slipway-") as folder,
        limited_gateway(Home(Path(folder)).create(), trusted_proxies=1) as proxied,
        proxied.client() as client,
    ):
        # The first is what the client wrote, the second what the proxy saw.
        sent = client.get("/predict", headers={"x-forwarded-for": "10.6.6.6, 10.0.0.1"})
        assert proxied.logged(sent.headers["x-request-id"])["client"] == "10.0.0.1"
        assert sent.json()["headers"]["x-forwarded-for"] == "10.0.0.1"
