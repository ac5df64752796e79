"""Talking to a model server: in this process, or a real `bentoml serve` on a free port."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import uvicorn

from bentos.model_server.app import ModelServer
from bentos.model_server.bundle import Limits
from bentos.model_server.lifecycle import Lifecycle
from bentos.model_server.metrics import Metrics
from bentos.model_server.settings import Settings
from bentos.prediction_log.settings import PredictionLogSettings
from tests.bentos.model_server.models import Parts

with warnings.catch_warnings():
    # Starlette would rather have httpx2, which nothing else here needs.
    warnings.filterwarnings("ignore", message="Using `httpx` with `starlette.testclient`")
    from starlette.testclient import TestClient as TestClient

JSON = {"content-type": "application/json"}
PROBLEM = "application/problem+json"
LOOPBACK = ("127.0.0.1", 50000)
GOOD = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


def wait_for_it(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline, "neither ready nor refused"
        time.sleep(0.01)


def wait_until_decided(lifecycle: Lifecycle) -> None:
    wait_for_it(lambda: lifecycle.model is not None or lifecycle.refusal is not None)


def assert_problem(response: Any, status: int, words: str) -> dict[str, Any]:
    """What every error of this server has in common; returns the document."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status
    assert problem["type"].startswith("urn:slipway:problem:")
    assert problem["request_id"] == response.headers["x-request-id"]
    assert words in problem["detail"], problem
    assert "Traceback" not in response.text
    return problem


@dataclass(frozen=True)
class App:
    """The application in this process, and the model behind it."""

    client: TestClient
    lifecycle: Lifecycle
    parts: Parts

    def post(self, path: str, body: str | bytes | dict[str, Any]) -> httpx.Response:
        content = json.dumps(body) if isinstance(body, dict) else body
        response: httpx.Response = self.client.post(path, content=content, headers=JSON)
        return response

    def predict(self, **features: Any) -> httpx.Response:
        return self.post("/predict", {"features": features})


@contextmanager
def serving(
    parts: Parts,
    folder: Path,
    limits: Limits | None = None,
    keys: Path | None = None,
    cache_url: str | None = None,
    log: PredictionLogSettings | None = None,
    *,
    access_log: bool = False,
    **more: Any,
) -> Iterator[App]:
    """The application in this process, ready. more: fields of Settings."""
    settings = Settings(
        parts.write(folder, limits),
        "test:1",
        access_log=access_log,
        keys=keys,
        cache_url=cache_url,
        prediction_log=log,
        **more,
    )
    lifecycle = Lifecycle(settings, Metrics(None))
    with TestClient(ModelServer(lifecycle), client=LOOPBACK) as client:
        wait_until_decided(lifecycle)
        yield App(client, lifecycle, parts)


def wait_for_metric(app: App, line: str) -> str:
    """The text of /metrics once it has that line."""
    deadline = time.monotonic() + 10
    while line not in (text := app.client.get("/metrics").text).splitlines():
        assert time.monotonic() < deadline, text
    return str(text)


@contextmanager
def served(
    parts: Parts, folder: Path, limits: Limits | None = None
) -> Iterator[tuple[int, Lifecycle]]:
    """The application under uvicorn, as BentoML runs it, on a free port."""
    lifecycle = Lifecycle(Settings(parts.write(folder, limits)), Metrics(None))
    config = uvicorn.Config(
        ModelServer(lifecycle),
        log_config=None,
        server_header=False,
        loop="bentos.model_server.event_loop:Loop",
        http="bentos.model_server.http_protocol:Protocol",  # type: ignore[arg-type]
    )
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until_decided(lifecycle)
            yield listener.getsockname()[1], lifecycle
        finally:
            server.should_exit = True
            thread.join()


@dataclass(frozen=True)
class Server:
    """A `bentoml serve` and its address."""

    master: psutil.Process
    client: httpx.Client
    log: Path

    def family(self) -> list[psutil.Process]:
        return [self.master, *self.master.children(recursive=True)]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _spawn(tag: str, home: Path, port: int, variables: dict[str, str]) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "BENTOML_HOME": str(home),
        "BENTOML_DO_NOT_TRACK": "True",
        "TMPDIR": str(home),  # a killed master leaves folders behind
        **variables,
    }
    with (home / f"{port}.log").open("wb") as log:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "bentoml", "serve", tag),
                *("--host", "127.0.0.1", "--port", str(port)),
            ],
            cwd=home,  # not the checkout: the Bento's own code must do
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def wait_for(server: Server, path: str, status: int, seconds: float = 40) -> httpx.Response:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            response = server.client.get(path)
            if response.status_code == status:
                return response
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"{path} was never {status}: {server.log.read_text()}")


@contextmanager
def bentoml_serve(tag: str, home: Path, **variables: str) -> Iterator[Server]:
    """Start it, wait until it answers at all, and leave nothing of it behind."""
    port = free_port()
    popen = _spawn(tag, home, port, variables)
    family = [psutil.Process(popen.pid)]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            server = Server(family[0], client, home / f"{port}.log")
            wait_for(server, "/health", 200)
            family = server.family()
            yield server
    finally:
        for process in family:
            if process.is_running():
                process.kill()
        popen.wait()
