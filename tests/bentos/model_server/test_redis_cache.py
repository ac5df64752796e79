"""The response cache in a real Redis."""

import asyncio
import logging
import math
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bentos.model_server import breaker, redis_cache
from bentos.model_server.breaker import FAILURES
from bentos.model_server.bundle import CacheLimits, Limits
from bentos.model_server.cache import Counters, RowKeys
from bentos.model_server.redis_cache import MAX_ROWS, RedisCache
from tests.bentos.model_server.clients import GOOD, App, serving
from tests.bentos.model_server.models import IRIS, Parts
from tests.bentos.model_server.models import iris as make_iris
from tests.bentos.model_server.redis_server import RedisServer, redis_server

LIMITS = Limits(cache=CacheLimits(ttl_seconds=3600))
KEY = b"k" * 16
ROW = tuple(GOOD[name] for name in IRIS)


@pytest.fixture(scope="module")
def shared() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def redis(shared: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    """Empty. The time-out is out of the way, because this machine may be busy."""
    monkeypatch.setattr(redis_cache, "TIMEOUT_SECONDS", 10)
    monkeypatch.setattr(breaker, "RETRY_SECONDS", 0.05)
    shared.client.flushall()
    return shared


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def asked(app: App, **features: Any) -> str:
    response = app.predict(**GOOD | features)
    assert response.status_code == 200
    return str(response.headers["x-cache"])


def counters(app: App) -> Counters:
    model = app.lifecycle.model
    assert model is not None
    assert model.cache is not None
    return model.cache.counters


def test_servers_of_a_version_share_their_answers(
    iris: Parts, redis: RedisServer, tmp_path: Path
) -> None:
    with serving(iris, tmp_path / "a", LIMITS, cache_url=redis.url) as app:
        computed = app.predict(**GOOD)
        wait_until(lambda: redis.client.dbsize() == 1)
    assert 0 < redis.client.pttl(redis.names()[0]) <= 3_600_000
    with serving(iris, tmp_path / "b", LIMITS, cache_url=redis.url) as app:
        found = app.predict(**GOOD)
        assert counters(app) == Counters(hits=1)
    assert (computed.headers["x-cache"], found.headers["x-cache"]) == ("miss", "hit")
    answers = [r.json() | {"request_id": ""} for r in (computed, found)]
    assert answers[0] == answers[1]


def test_a_batch_asks_for_all_its_rows_and_computes_the_others(
    iris: Parts, redis: RedisServer, tmp_path: Path
) -> None:
    rows = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3], [5.9, 3.0, 4.2, 1.5]]
    with serving(iris, tmp_path, LIMITS, cache_url=redis.url) as app:
        app.post("/predict/batch", {"instances": rows[1:2]})
        wait_until(lambda: redis.client.dbsize() == 1)
        before = redis.client.info("commandstats")["cmdstat_mget"]["calls"]
        partial = app.post("/predict/batch", {"instances": rows})
        wait_until(lambda: redis.client.dbsize() == 3)
        found = app.post("/predict/batch", {"instances": rows})
    assert redis.client.info("commandstats")["cmdstat_mget"]["calls"] == before + 2
    assert [r.headers["x-cache"] for r in (partial, found)] == ["partial", "hit"]
    assert partial.json()["predictions"] == ["setosa", "virginica", "versicolor"]
    assert partial.json()["probabilities"] == found.json()["probabilities"]


def test_no_version_answers_for_another(redis: RedisServer, tmp_path: Path) -> None:
    three = make_iris()
    contract = msgspec.structs.replace(three.contract, version=4)
    certificate = msgspec.structs.replace(
        three.certificate, version=4, contract_sha256=contract.digest()
    )
    four = Parts(three.onnx, contract, certificate)  # the same graph, registered again
    with (
        serving(three, tmp_path / "3", LIMITS, cache_url=redis.url) as old,
        serving(four, tmp_path / "4", LIMITS, cache_url=redis.url) as new,
    ):
        assert asked(old) == "miss"
        wait_until(lambda: redis.client.dbsize() == 1)
        (of_three,) = redis.names()
        assert asked(new) == "miss"
        wait_until(lambda: redis.client.dbsize() == 2)
        (of_four,) = set(redis.names()) - {of_three}
        # Not even where somebody copies it.
        redis.client.copy(of_three, of_four, replace=True)
        assert asked(new) == "miss"
        assert (counters(new).errors, counters(old).errors) == (1, 0)


def value(label: Any, probabilities: Any, key: bytes | None = None) -> bytes:
    return msgspec.msgpack.encode((key, label, probabilities))


POISONED = {
    "no msgpack": b"\xc1",
    "nothing": b"",
    "a pickle": pickle.dumps(("setosa", [1.0, 0.0, 0.0])),
    "too few probabilities": value("setosa", [0.5, 0.5]),
    "too many probabilities": value("setosa", [0.25] * 4),
    "no probabilities": value("setosa", None),
    "an unknown label": value("rose", [1.0, 0.0, 0.0]),
    "a label of another type": value(0, [1.0, 0.0, 0.0]),
    "a probability that is no number": value("setosa", [1.0, 0.0, math.nan]),
    "a probability that is a text": value("setosa", [1.0, 0.0, "0"]),
    "text that is no UTF-8": b"\x93\xc0\xa3\xff\xff\xff\x90",
    "another row's answer": value("virginica", [0.0, 0.0, 1.0], b"k" * 16),
}


@pytest.fixture(scope="module")
def app(
    iris: Parts, shared: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[App]:
    with serving(iris, tmp_path_factory.mktemp("iris"), LIMITS, cache_url=shared.url) as app:
        yield app


@pytest.mark.parametrize("kind", POISONED)
def test_a_value_that_is_no_answer_is_computed_and_replaced(
    kind: str, app: App, iris: Parts, redis: RedisServer
) -> None:
    wait_until(lambda: asked(app) == "hit")
    (name,) = redis.names()
    key = RowKeys(iris.contract)(ROW)
    poison = POISONED[kind]
    if poison[:2] == b"\x93\xc0":  # under its own key, so that only the rest is wrong
        poison = b"\x93" + msgspec.msgpack.encode(key) + poison[2:]
    redis.client.set(name, poison)
    errors = counters(app).errors
    response = app.predict(**GOOD)
    assert (response.headers["x-cache"], response.json()["prediction"]) == ("miss", "setosa")
    assert counters(app).errors == errors + 1
    wait_until(lambda: redis.client.get(name) != poison)
    assert asked(app) == "hit"


def test_serving_goes_on_without_redis_and_the_cache_with_it(
    iris: Parts, redis: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with redis_server() as own, serving(iris, tmp_path, LIMITS, cache_url=own.url) as app:
        caplog.set_level(logging.WARNING, "slipway.model_server")
        wait_until(lambda: asked(app) == "hit")
        own.kill()
        deadline = time.monotonic() + 0.5  # ten trials
        while time.monotonic() < deadline:
            assert asked(app) == "miss"
        assert caplog.text.count("fails (Connection") == 1
        own.start()
        wait_until(lambda: asked(app) == "hit")
    assert [" fails " in record.getMessage() for record in caplog.records] == [True, False]


def test_a_server_starts_without_its_redis(iris: Parts, tmp_path: Path) -> None:
    with serving(iris, tmp_path, LIMITS, f"unix://{tmp_path}/none.sock") as app:
        assert app.client.get("/ready").status_code == 200
        assert asked(app) == "miss"


def test_a_redis_that_hangs_is_waited_for_twice(iris: Parts, shared: RedisServer) -> None:
    seen, waits = Counters(), []

    async def look_up() -> None:
        cache = RedisCache(shared.url, iris.contract, 60, seen)
        for _ in range(5):
            started = time.monotonic()
            found = await asyncio.gather(*(cache.get([KEY]) for _ in range(200)))
            waits.append((time.monotonic() - started, seen.errors))
            assert found == [[None]] * 200
            await cache.put([(KEY, ("setosa", [1.0, 0.0, 0.0]))] * 100)
        await cache.close()

    assert shared.process is not None
    shared.process.send_signal(signal.SIGSTOP)
    try:
        asyncio.run(look_up())
    finally:
        shared.process.send_signal(signal.SIGCONT)
    # All of a round wait at the same time; those after the second failure ask no more.
    assert max(seconds for seconds, _ in waits) < 2
    assert {errors for _, errors in waits[FAILURES - 1 :]} == {waits[-1][1]}


def test_what_comes_at_once_is_asked_for_together_and_within_bounds(
    iris: Parts, redis: RedisServer
) -> None:
    keys = [number.to_bytes(16, "big") for number in range(2 * MAX_ROWS)]

    async def ask() -> list[Any]:
        cache = RedisCache(redis.url, iris.contract, 60, Counters())
        await cache.put([(key, ("setosa", [1.0, 0.0, float(i)])) for i, key in enumerate(keys[:9])])
        for key in keys[9:]:
            await cache.put([(key, ("setosa", [1.0, 0.0, 0.0]))])
        await cache.close()
        before = redis.client.info("commandstats")["cmdstat_mget"]["calls"]
        found = await asyncio.gather(*(cache.get([key]) for key in keys))
        assert await cache.get(keys) == [None] * len(keys)
        await cache.close()
        assert redis.client.info("commandstats")["cmdstat_mget"]["calls"] == before + 1
        return [answer for (answer,) in found]

    found = asyncio.run(ask())
    assert redis.client.dbsize() == MAX_ROWS
    assert found[:9] == [("setosa", [1.0, 0.0, float(i)]) for i in range(9)]
    assert [answer is not None for answer in found] == [i < MAX_ROWS for i in range(2 * MAX_ROWS)]


def test_a_full_redis_is_still_read(redis: RedisServer, app: App) -> None:
    wait_until(lambda: asked(app) == "hit")
    redis.client.config_set("maxmemory", 1)
    errors = counters(app).errors
    try:
        assert asked(app, petal_width=0.7) == "miss"
        wait_until(lambda: counters(app).errors == errors + 1)
        assert asked(app) == "hit"
        assert asked(app, petal_width=0.7) == "miss"
    finally:
        redis.client.config_set("maxmemory", 0)
