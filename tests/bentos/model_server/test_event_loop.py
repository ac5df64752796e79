"""New connections under load, on the loop that uvicorn gets."""

import asyncio
import errno
import json
import socket
import threading
from pathlib import Path

import pytest
import uvicorn

from bentos.model_server import event_loop
from tests.bentos.model_server import models
from tests.bentos.model_server.clients import GOOD, served

CROWD = 100
HEALTH = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"


def test_uvicorn_takes_the_loop() -> None:
    event_loop.install()
    loop_factory = uvicorn.Config("nothing:app").get_loop_factory()
    assert loop_factory is event_loop.Loop


def test_a_crowd_that_came_while_the_loop_was_busy_gets_in_at_once(
    iris: models.Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(iris, tmp_path) as (port, lifecycle):
        busy, free = threading.Event(), threading.Event()
        turns = answered = 0
        loops: list[asyncio.AbstractEventLoop] = []

        def turn() -> None:
            nonlocal turns
            if answered < CROWD:
                turns += 1
                loops[0].call_soon(turn)

        async def infer(rows: object, request: object) -> object:
            loops.append(asyncio.get_running_loop())
            loops[0].call_soon(turn)
            busy.set()
            free.wait(20)  # as a long batch on the loop
            raise RuntimeError

        counted = lifecycle.metrics.answered

        def count(route: str, status: int, seconds: float) -> None:
            nonlocal answered
            answered += route == "/health"
            counted(route, status, seconds)

        monkeypatch.setattr(lifecycle.model, "infer", infer)
        monkeypatch.setattr(lifecycle.metrics, "answered", count)
        first = socket.create_connection(("127.0.0.1", port), timeout=20)
        body = json.dumps({"features": GOOD}).encode()
        first.sendall(
            b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )
        assert busy.wait(20)
        crowd = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(CROWD)]
        for client in crowd:
            client.sendall(HEALTH)
        free.set()
        for client in crowd:
            assert client.recv(4096).startswith(b"HTTP/1.1 200 OK")
        for client in (first, *crowd):
            client.close()
    assert turns < CROWD / 4  # one connection a turn would take CROWD


class Exhausted(socket.socket):
    """A listener whose process has no descriptor left, once."""

    failures = 0

    def accept(self) -> tuple[socket.socket, object]:
        if not self.failures:
            self.failures += 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


def test_without_descriptors_it_waits_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> bytes:
        loop = asyncio.get_running_loop()
        listener = Exhausted()
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]

        class Echo(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                transport.write(b"here")  # type: ignore[attr-defined]
                transport.close()

        server = await loop.create_server(Echo, sock=listener)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        found = await reader.read()
        writer.close()
        server.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        return found

    with asyncio.Runner(loop_factory=event_loop.Loop) as runner:
        assert runner.run(run()) == b"here"
    assert "Too many open files" in caplog.text
