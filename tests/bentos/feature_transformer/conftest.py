"""Stores of the tests' definitions: SQLite, and a real Redis."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.bentos.feature_transformer import definitions
from tests.bentos.feature_transformer.clients import App, Online, transformer
from tests.bentos.model_server.redis_server import RedisServer, redis_server


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def of_redis(server: RedisServer) -> dict[str, Any]:
    socket = server.url.removeprefix("unix://")
    return {"type": "redis", "connection_string": f"localhost:0,unix_socket_path={socket}"}


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def online(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Online:
    """A store with the customers 1 to 3; tests write to keys of their own."""
    folder = tmp_path_factory.mktemp("features")
    if request.param == "redis":
        settings = of_redis(request.getfixturevalue("redis"))
    else:
        settings = {"type": "sqlite", "path": str(folder / "online.db")}
    made = Online(folder, settings, definitions.apply(folder, settings))
    rows = [
        {"customer_id": number, "age": 20 + number, "income": 1000.5 * number}
        | {"is_premium": number == 2, "region": f"region {number}"}
        for number in (1, 2, 3)
    ]
    made.write("profile", rows)
    made.write("activity", [{"customer_id": number, "purchases": number} for number in (1, 2, 3)])
    return made


@pytest.fixture(scope="module")
def app(online: Online) -> Iterator[App]:
    with transformer(online) as app:
        yield app
