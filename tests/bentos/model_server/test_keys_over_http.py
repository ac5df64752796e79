"""Keys over HTTP, while the file changes under a running application."""

import logging
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from deploy.home import Home
from deploy.keys import KeyStore
from tests.bentos.model_server.clients import GOOD, App, assert_problem, serving
from tests.bentos.model_server.models import Parts


@dataclass(frozen=True)
class Guarded:
    """The application with a key file that changes while it runs."""

    app: App
    store: KeyStore

    def predict(self, key: str | None = None, path: str = "/predict") -> httpx.Response:
        body = {"features": GOOD} if path == "/predict" else {"instances": [GOOD]}
        headers = {} if key is None else {"x-api-key": key}
        response: httpx.Response = self.app.client.post(path, json=body, headers=headers)
        return response

    def becomes(self, status: int, key: str | None = None) -> httpx.Response:
        deadline = time.monotonic() + 5
        while (response := self.predict(key)).status_code != status:
            assert time.monotonic() < deadline, response.text
            time.sleep(0.02)
        return response


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(Home(tmp_path / "home"))


@pytest.fixture
def guarded(iris: Parts, store: KeyStore, tmp_path: Path) -> Iterator[Guarded]:
    with serving(iris, tmp_path / "model", keys=store.home.keys) as app:
        yield Guarded(app, store)


def test_keys_are_in_force_and_out_of_force_within_seconds_and_never_in_a_log(
    guarded: Guarded, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    assert guarded.predict().status_code == 200
    ann, bob = (guarded.store.add(name, ["predict"]) for name in ("ann", "bob"))
    response = guarded.becomes(401)
    problem = assert_problem(response, 401, "send an API key as X-API-Key")
    assert (problem["type"], response.headers["www-authenticate"]) == (
        "urn:slipway:problem:unauthorized",
        "Bearer",
    )
    for path in ("/predict", "/predict/batch"):
        assert guarded.predict(path=path).status_code == 401
        assert guarded.predict(ann, path).status_code == 200
    guarded.store.revoke("ann")
    assert_problem(guarded.becomes(401, ann), 401, "unknown or was revoked")
    assert guarded.predict(bob).status_code == 200
    carol = guarded.store.add("carol", ["admin"])
    guarded.becomes(403, carol)
    guarded.store.home.keys.unlink()
    guarded.becomes(503, bob)
    said = caplog.text + "".join(capfd.readouterr())
    for key in (ann, bob, carol):
        assert key.rpartition("_")[2] not in said


def test_what_says_how_a_server_is_needs_no_key(guarded: Guarded) -> None:
    guarded.store.add("ann", ["predict"])
    guarded.becomes(401)
    for path in ("/health", "/ready", "/metrics", "/docs", "/openapi.json", "/model/info"):
        assert guarded.app.client.get(path).status_code == 200


def test_metrics_and_log_name_the_callers_and_only_those_who_have_a_key(
    guarded: Guarded, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded.predict()
    key = guarded.store.add("ann", ["predict"])
    guarded.becomes(401)
    guarded.predict("slipway_00000000_mallory")
    guarded.predict(key)

    async def fail(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("bentos.model_server.asgi.Request.body", fail)
    assert guarded.predict(key).status_code == 500
    assert re.search(r"Request \w+ of ann to /predict failed", caplog.text)
    text = guarded.app.client.get("/metrics").text
    lines = re.findall(r"^slipway_caller_requests_total.*$", text, re.MULTILINE)
    assert lines == [
        'slipway_caller_requests_total{caller="ann",status="200"} 1.0',
        'slipway_caller_requests_total{caller="ann",status="500"} 1.0',
    ]
    assert "mallory" not in text


def test_the_schema_says_how_a_key_is_sent(guarded: Guarded) -> None:
    document = guarded.app.client.get("/openapi.json").json()
    schemes = document["components"]["securitySchemes"]
    assert schemes["X-API-Key"]["name"] == "X-API-Key"
    for path in ("/predict", "/predict/batch"):
        post = document["paths"][path]["post"]
        assert {name for item in post["security"] for name in item} == set(schemes)
        assert {"401", "403"} <= set(post["responses"])
