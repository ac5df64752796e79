import asyncio
import itertools
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.bentos.model_server.clients import GOOD, JSON, LOOPBACK, App, assert_problem


@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=x"],
)
def test_a_body_that_is_not_declared_as_json_is_refused(
    iris_app: App, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    body = json.dumps({"features": GOOD}).encode()
    response = iris_app.client.post("/predict", content=body, headers=headers)
    assert_problem(response, 415, "expected")


def test_a_compressed_body_is_refused(iris_app: App) -> None:
    headers = JSON | {"content-encoding": "gzip"}
    response = iris_app.client.post("/predict", content=b"x", headers=headers)
    assert_problem(response, 415, "Content-Encoding, got gzip")


def test_json_with_a_charset_or_a_suffix_is_accepted(iris_app: App) -> None:
    for kind in ("application/json; charset=UTF-8", "Application/JSON", "application/x+json"):
        body = json.dumps({"features": GOOD}).encode()
        response = iris_app.client.post("/predict", content=body, headers={"content-type": kind})
        assert response.status_code == 200


def test_a_body_over_the_limit_is_refused_by_its_declared_length(iris_app: App) -> None:
    response = iris_app.post("/predict", b" " * 4097)
    assert_problem(response, 413, "larger than 4096 bytes")
    assert iris_app.post("/predict", b" " * 4096).status_code == 400


def test_a_body_without_a_length_is_read_no_further_than_the_limit(iris_app: App) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while True:
            sent += 1024
            yield b" " * 1024

    response = _stream(iris_app, endless())
    assert response == (413, True)
    assert sent <= 6 * 1024


def _stream(app: App, chunks: Iterator[bytes]) -> tuple[int, bool]:
    """Call the application itself: a test client would collect the body first."""
    started: dict[str, Any] = {}

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"type": "http.request", "body": next(chunks), "more_body": True}

    async def send(message: Any) -> None:
        started.update(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/predict",
        "client": LOOPBACK,
        "headers": [(b"content-type", b"application/json")],
    }
    portal = app.client.portal
    assert portal is not None
    portal.call(app.client.app, scope, receive, send)
    return started["status"], (b"connection", b"close") in started["headers"]


def test_a_body_that_does_not_come_is_given_up(
    iris_app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bentos.model_server.asgi.BODY_TIMEOUT_SECONDS", 0.05)
    assert _stream(iris_app, itertools.repeat(b"")) == (408, True)


def test_an_unknown_path_is_a_problem(iris_app: App) -> None:
    problem = assert_problem(iris_app.client.get("/predict/x"), 404, "no route /predict/x")
    assert problem["instance"] == "/predict/x"


def test_another_method_is_a_problem_that_names_the_allowed_ones(iris_app: App) -> None:
    response = iris_app.client.get("/predict")
    assert_problem(response, 405, "takes POST, not GET")
    assert response.headers["allow"] == "POST"
    assert iris_app.client.delete("/health").headers["allow"] == "GET, HEAD"


def test_head_is_get_without_the_body(iris_app: App) -> None:
    response = iris_app.client.head("/health")
    assert (response.status_code, response.content) == (200, b"")


def test_a_sane_request_id_is_kept_and_another_is_replaced(iris_app: App) -> None:
    def echoed(given: str) -> str:
        headers = {"x-request-id": given}
        return str(iris_app.client.get("/health", headers=headers).headers["x-request-id"])

    assert echoed("order-17/3") == "order-17/3"
    assert echoed("x" * 128) == "x" * 128
    for odd in ("", "x" * 129, "a b", "a\tb"):
        assert re.fullmatch("[0-9a-f]{32}", echoed(odd))


def test_an_unexpected_error_is_a_500_without_its_traceback(
    iris_app: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = iris_app.lifecycle.model
    assert model is not None
    monkeypatch.setattr(model, "answers", None)
    with caplog.at_level(logging.ERROR, "slipway.model_server"):
        response = iris_app.predict(**GOOD)
    problem = assert_problem(response, 500, "unexpected error")
    assert problem["request_id"] in caplog.text
    assert "AttributeError" in caplog.text
    assert "NoneType" not in response.text
