"""A real Envoy with the files that the platform writes."""

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from deploy.gateway.envoy import (
    GatewayAdmin,
    envoy_command,
    write_clusters,
    write_routes,
    write_static,
)
from deploy.gateway.routes import Routing
from deploy.home import Home
from serving_config.gateway import Gateway

# httpcore leaves a socket to the garbage collector where it could not connect.
ADMIN_IS_ASKED_TOO_EARLY = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket.socket fd=.*, family=1,"
    ":pytest.PytestUnraisableExceptionWarning"
)


def until(condition: Callable[[], object], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


@contextmanager
def running_envoy(
    home: Home,
    settings: Gateway,
    routing: Routing,
    ports: Mapping[str, int],
    max_body_bytes: int = 4 << 20,
) -> Iterator[GatewayAdmin]:
    """Ready for requests; ended at the end."""
    write_static(home, settings, max_body_bytes)
    write_clusters(home, ports, settings.limits)
    write_routes(home, routing)
    with (home.logs / "gateway.log").open("wb") as log:
        process = subprocess.Popen(envoy_command(home), stdout=log, stderr=log)
        try:
            admin = GatewayAdmin(home)
            until(lambda: admin.ready() and "rds" in admin.versions())
            yield admin
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """The body, which has to be RFC 9457's with the request's id."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["type"] == "about:blank" or body["type"].startswith("urn:slipway:problem:")
    assert body["status"] == status
    assert body["title"]
    assert body["request_id"] == response.headers["x-request-id"]
    return body
