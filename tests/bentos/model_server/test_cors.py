from collections.abc import Iterator
from pathlib import Path

import pytest

from bentos.model_server.app import ModelServer
from bentos.model_server.bundle import Limits
from bentos.model_server.lifecycle import Lifecycle, Settings
from bentos.model_server.metrics import Metrics
from tests.bentos.model_server.clients import (
    GOOD,
    LOOPBACK,
    App,
    TestClient,
    assert_problem,
    serving,
    wait_until_decided,
)
from tests.bentos.model_server.models import Parts

PAGE = "https://shop.example"
ASKS = {"access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}


@pytest.fixture(scope="module")
def app(iris: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    limits = Limits(cors_origins=("http://localhost:3000", "https://Shop.example"))
    with serving(iris, tmp_path_factory.mktemp("iris"), limits) as app:
        yield app


def cors_headers(headers: object) -> set[str]:
    return {name for name in dict(headers) if name.startswith("access-control-")}


def test_a_page_of_an_allowed_origin_reads_answers_and_errors(app: App) -> None:
    for path, status in (("/predict", 200), ("/predict/batch", 422), ("/nowhere", 404)):
        response = app.client.post(path, json={"features": GOOD}, headers={"origin": PAGE})
        assert response.status_code == status
        assert response.headers["access-control-allow-origin"] == PAGE
        assert response.headers["vary"] == "origin"
        exposed = response.headers["access-control-expose-headers"].lower().split(", ")
        assert {"x-request-id", "x-model-version", "x-environment", "retry-after"} < set(exposed)
        assert "access-control-allow-credentials" not in response.headers


def test_its_browser_asks_first_and_is_told_what_it_may_send(app: App) -> None:
    response = app.client.options("/predict", headers={"origin": PAGE, **ASKS})
    assert (response.status_code, response.content) == (204, b"")
    assert {"content-length", "content-type"}.isdisjoint(response.headers)
    assert response.headers["access-control-allow-origin"] == PAGE
    assert "POST" in response.headers["access-control-allow-methods"].split(", ")
    allowed = response.headers["access-control-allow-headers"].split(", ")
    assert {"content-type", "x-api-key", "authorization", "x-request-id"} < set(allowed)
    assert {"x-environment", "x-model-version", "traceparent"} < set(allowed)
    assert int(response.headers["access-control-max-age"]) > 0
    assert response.headers["vary"] == "origin"


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "",
        PAGE + ".evil.example",
        "http://shop.example",
        PAGE + ":1",
    ],
)
def test_a_page_of_another_origin_is_told_nothing(app: App, origin: str) -> None:
    answer = app.client.post("/predict", json={"features": GOOD}, headers={"origin": origin})
    assert answer.status_code == 200
    preflight = app.client.options("/predict", headers={"origin": origin, **ASKS})
    assert_problem(preflight, 405, "/predict takes POST, not OPTIONS")
    for response in (answer, preflight):
        assert cors_headers(response.headers) == set()
        assert response.headers["vary"] == "origin"


def test_options_that_is_no_preflight_is_a_405(app: App) -> None:
    assert_problem(app.client.options("/predict", headers={"origin": PAGE}), 405, "not OPTIONS")
    assert_problem(app.client.options("/predict", headers=ASKS), 405, "not OPTIONS")


def test_a_star_lets_every_page_in(iris: Parts, tmp_path: Path) -> None:
    with serving(iris, tmp_path, Limits(cors_origins=("*",))) as app:
        for origin in ("https://any.example", "null"):
            asked = app.client.options("/predict", headers={"origin": origin, **ASKS})
            answer = app.client.get("/model/info", headers={"origin": origin})
            assert (asked.status_code, answer.status_code) == (204, 200)
            for response in (asked, answer):
                assert response.headers["access-control-allow-origin"] == "*"
                assert "vary" not in response.headers


def test_as_shipped_there_is_no_cors(iris_app: App) -> None:
    answer = iris_app.client.post("/predict", json={"features": GOOD}, headers={"origin": PAGE})
    preflight = iris_app.client.options("/predict", headers={"origin": PAGE, **ASKS})
    assert (answer.status_code, preflight.status_code) == (200, 405)
    for response in (answer, preflight):
        assert cors_headers(response.headers) == set()
        assert "vary" not in response.headers


def test_a_page_may_read_why_a_model_is_refused(iris: Parts, tmp_path: Path) -> None:
    folder = iris.write(tmp_path, Limits(cors_origins=(PAGE,)))
    (folder / "model.onnx").write_bytes(b"")
    lifecycle = Lifecycle(Settings(folder), Metrics(None))
    with TestClient(ModelServer(lifecycle), client=LOOPBACK) as client:
        wait_until_decided(lifecycle)
        response = client.post("/predict", json={"features": GOOD}, headers={"origin": PAGE})
    assert_problem(response, 503, "model.onnx")
    assert response.headers["access-control-allow-origin"] == PAGE
