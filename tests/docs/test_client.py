"""The example client as its reader runs it, against a real model server."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deploy.processes import free_port
from tests.bentos.model_server import models
from tests.orchestration.load_test.servers import App, below, model_server

CLIENT = Path(__file__).parents[2] / "docs" / "examples" / "client.py"
ROW = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


@dataclass
class Gateway:
    """Sheds as often as `shed` says, one after the other."""

    url: str = ""
    shed: list[int] = field(default_factory=list)
    seen: list[dict[bytes, bytes]] = field(default_factory=list)

    def around(self, app: App) -> App:
        inner = below("/models/iris", app)

        async def shedding(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                self.seen.append(dict(scope["headers"]))
                if self.shed:
                    headers = [(b"retry-after", b"0"), (b"content-length", b"0")]
                    status = self.shed.pop(0)
                    await send(
                        {"type": "http.response.start", "status": status, "headers": headers}
                    )
                    await send({"type": "http.response.body", "body": b""})
                    return
            await inner(scope, receive, send)

        return shedding


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    made = Gateway()
    with model_server(models.iris(), tmp_path_factory.mktemp("iris"), made.around) as made.url:
        yield made


@pytest.fixture
def gateway(served: Gateway) -> Gateway:
    served.seen.clear()
    served.shed.clear()
    return served


def call(url: str, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, CLIENT, *arguments],
        env=os.environ | {"SLIPWAY_URL": url} | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_it_prints_the_prediction(gateway: Gateway) -> None:
    called = call(gateway.url, "iris", json.dumps(ROW), SLIPWAY_API_KEY="k")
    assert (called.returncode, called.stderr) == (0, "")
    assert json.loads(called.stdout)["model"]["version"] == "3"
    (headers,) = gateway.seen
    assert (headers[b"x-api-key"], headers[b"x-environment"]) == (b"k", b"staging")


def test_it_tries_again_when_shed_with_the_same_request_id(gateway: Gateway) -> None:
    gateway.shed += [429, 503]
    called = call(gateway.url, "iris", json.dumps(ROW))
    assert called.returncode == 0
    assert len(gateway.seen) == 3
    assert len({headers[b"x-request-id"] for headers in gateway.seen}) == 1


def test_it_gives_up_after_some_tries(gateway: Gateway) -> None:
    gateway.shed += [503] * 10
    called = call(gateway.url, "iris", json.dumps(ROW))
    assert called.returncode == 1
    assert ": 503" in called.stderr
    assert len(gateway.seen) == 4


def test_it_says_what_the_problem_document_says_and_does_not_try_again(gateway: Gateway) -> None:
    called = call(gateway.url, "iris", json.dumps(ROW | {"petal_width": "wide"}))
    assert called.returncode == 1
    assert "422: " in called.stderr
    assert "petal_width: " in called.stderr
    assert "Traceback" not in called.stderr
    assert len(gateway.seen) == 1


def test_a_server_that_is_not_there_is_one_line() -> None:
    called = call(f"http://127.0.0.1:{free_port()}", "iris", json.dumps(ROW))
    assert called.returncode == 1
    assert len(called.stderr.splitlines()) == 1
    assert "refused" in called.stderr
