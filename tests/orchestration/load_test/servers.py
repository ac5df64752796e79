"""Real servers on free ports of 127.0.0.1: any application, and the model server."""

import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import uvicorn

from bentos.model_server.app import ModelServer
from bentos.model_server.lifecycle import Lifecycle, Settings
from bentos.model_server.metrics import Metrics
from tests.bentos.model_server.models import Parts

App = Callable[[Any, Any, Any], Awaitable[None]]


def below(prefix: str, app: App) -> App:
    """The application as the gateway shows it: its paths below a prefix, 404 beside it."""

    async def routed(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            scope = {**scope, "path": path.removeprefix(prefix) if path.startswith(prefix) else "/"}
        await app(scope, receive, send)

    return routed


@contextmanager
def http_server(app: App, lifespan: Literal["on", "off"] = "on") -> Iterator[str]:
    """Any application by uvicorn, in a thread; yields its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="critical", ws="none", lifespan=lifespan)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive(), "uvicorn ended"
            assert time.monotonic() < deadline, "uvicorn did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


@contextmanager
def model_server(
    parts: Parts, folder: Path, around: Callable[[App], App] = lambda app: app
) -> Iterator[str]:
    """The real model server. around: what stands in front of it."""
    lifecycle = Lifecycle(Settings(parts.write(folder), "test:1"), Metrics(None))
    with http_server(around(ModelServer(lifecycle))) as url:
        deadline = time.monotonic() + 20
        while lifecycle.model is None:
            assert lifecycle.refusal is None, lifecycle.refusal
            assert time.monotonic() < deadline, "never ready"
            time.sleep(0.01)
        yield url
