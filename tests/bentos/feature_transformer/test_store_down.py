"""A store that does not answer, that hangs, and that comes back."""

import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bentos.feature_transformer.settings import FeaturesConfig, ViewConfig
from tests.bentos.feature_transformer import definitions
from tests.bentos.feature_transformer.clients import App, Online, transformer
from tests.bentos.feature_transformer.conftest import of_redis
from tests.bentos.model_server.clients import assert_problem, wait_for_it
from tests.bentos.model_server.redis_server import RedisServer

ROW = {"customer_id": 1, "purchases": 7}
MAIL = {"service": "mail", "entities": [{"customer_id": 1}], "request": [{"text": "hello"}]}
DEFAULTS = FeaturesConfig(
    on_store_down="default",
    timeout_seconds=0.5,
    views={
        "profile": ViewConfig(
            defaults={"age": 40, "income": 1, "is_premium": False, "region": "nowhere"}
        ),
        "activity": ViewConfig(defaults={"purchases": 0}),
        "visits": ViewConfig(defaults={"visits": 0}),
    },
)


@pytest.fixture
def online(redis: RedisServer, tmp_path: Path) -> Iterator[Online]:
    settings = of_redis(redis)
    made = Online(tmp_path, settings, definitions.apply(tmp_path, settings))
    made.write("activity", [ROW])
    yield made
    if redis.process is None or redis.process.poll() is not None:
        redis.start()
    redis.client.flushall()


def errors(app: App) -> float:
    return app.metric("slipway_features_store_errors_total")


def test_a_store_that_is_gone_is_a_503_and_works_again_when_it_is_back(
    redis: RedisServer, online: Online
) -> None:
    with transformer(online, FeaturesConfig(timeout_seconds=0.5)) as app:
        assert app.post(MAIL).json()["features"]["purchases"] == [7]
        redis.kill()
        for _ in range(4):  # the breaker opens on the way
            response = app.post(MAIL)
            problem = assert_problem(response, 503, "the online store of activity does not answer")
            assert problem["type"] == "urn:slipway:problem:feature-store-down"
            assert response.headers["retry-after"] == "1"
        assert errors(app) == 4
        assert app.metric('slipway_features_lookups_total{status="down",view="activity"}') == 4
        assert app.client.get("/ready").status_code == 200  # it answers, if only with refusals
        assert_problem(app.ask("text", [{}], request=[{"text": 1}]), 422, "a text")
        assert app.ask("text", [{}], request=[{"text": "a"}]).status_code == 200
        redis.start()
        online.write("activity", [ROW | {"purchases": 8}])
        wait_for_it(lambda: app.post(MAIL).status_code == 200)
        assert app.post(MAIL).json()["features"]["purchases"] == [8]


def test_a_redis_that_was_restarted_between_two_requests_is_no_error(
    redis: RedisServer, online: Online
) -> None:
    with transformer(online) as app:
        assert app.post(MAIL).status_code == 200
        redis.kill()
        redis.start()
        online.write("activity", [ROW])
        assert app.post(MAIL).json()["features"]["purchases"] == [7]
        assert errors(app) == 0


def test_defaults_stand_in_for_a_store_that_is_down(redis: RedisServer, online: Online) -> None:
    with transformer(online, DEFAULTS) as app:
        redis.kill()
        answer = app.post(MAIL).json()
    assert answer == {
        "features": {"purchases": [0], "length": [5], "words": [1]},
        "views": {"activity": {"as_of": [None], "status": ["down"]}},
        "defaulted": ["purchases"],
    }


@pytest.mark.parametrize(("config", "status"), [(DEFAULTS, 200), (None, 503)])
def test_a_store_that_hangs_is_given_up_in_time(
    redis: RedisServer, online: Online, config: FeaturesConfig | None, status: int
) -> None:
    config = config or FeaturesConfig(timeout_seconds=0.5)
    with transformer(online, config) as app:
        assert app.post(MAIL).status_code == 200
        assert redis.process is not None
        redis.process.send_signal(signal.SIGSTOP)
        try:
            response = app.post(MAIL)
            assert response.status_code == status
            assert response.elapsed.total_seconds() < 2
        finally:
            redis.process.send_signal(signal.SIGCONT)
        wait_for_it(lambda: app.post(MAIL).json().get("features", {}).get("purchases") == [7])


def test_it_is_ready_once_the_store_has_answered(redis: RedisServer, online: Online) -> None:
    redis.kill()
    with transformer(online, wait=False) as app:
        wait_for_it(lambda: app.lifecycle.features is not None)
        assert_problem(app.client.get("/ready"), 503, "has not answered yet")
        assert app.client.get("/health").status_code == 200
        redis.start()
        wait_for_it(lambda: app.client.get("/ready").status_code == 200)


def test_a_sqlite_store_without_its_tables_is_down(tmp_path: Path) -> None:
    settings = {"type": "sqlite", "path": str(tmp_path / "online.db")}
    made = Online(tmp_path, settings, definitions.apply(tmp_path, settings))
    other = Online(tmp_path, settings | {"path": str(tmp_path / "other.db")}, made.store)
    with transformer(other, wait=False) as app:
        wait_for_it(lambda: app.lifecycle.features is not None)
        assert_problem(app.post(MAIL), 503, "activity does not answer")
        assert_problem(app.client.get("/ready"), 503, "has not answered yet")


def test_a_view_without_its_table_is_no_outage_of_the_others(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    settings = {"type": "sqlite", "path": str(path)}
    made = Online(tmp_path, settings, definitions.apply(tmp_path, settings))
    made.write("profile", [{"customer_id": 1, **DEFAULTS.view("profile").defaults}])
    made.write("visits", [{"customer_id": 1, "shop": "a", "visits": 5}])
    with transformer(made) as app, closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE tests_activity")  # the view was taken out
        for _ in range(4):
            assert_problem(app.post(MAIL), 503, "the online store of activity does not answer")
        asked = app.ask("loyalty", [{"customer_id": 1, "shop": "a"}])
        assert asked.json()["features"] == {"age": [40], "visits": [5]}
