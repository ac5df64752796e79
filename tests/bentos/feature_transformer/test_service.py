"""The built Bento under a real `bentoml serve`, on SQLite and on a real Redis."""

import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import psutil
import pytest

from feature_repo.apply import apply
from feature_repo.store import open_store
from orchestration.build_transformer import build_transformer
from serving_config.features import Features
from tests.bentos.feature_transformer.conftest import of_redis
from tests.bentos.model_server.clients import Server, assert_problem, bentoml_serve, wait_for
from tests.bentos.model_server.redis_server import RedisServer

PRODUCTION = "feature_store.production.yaml"
ASKED = {"service": "spam_detector", "entities": [{"sender": "a@example.org"}]}
ASKED |= {"request": [{"email_content": "HELLO http://x!"}]}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("transformer")


@pytest.fixture(scope="module")
def sqlite(home: Path) -> Iterator[Server]:
    """Served, with the features of one sender."""
    features = home / "features"
    description = apply(features)
    write(open_store(features), 5)
    bento = build_transformer(Features(), description, home)
    variables = {"SLIPWAY_FEATURES_HOME": str(features), "SLIPWAY_DRAIN_SECONDS": "1"}
    with bentoml_serve(bento.tag, home, **variables) as server:
        wait_for(server, "/ready", 200)
        yield server


def write(store: Any, messages: int) -> None:
    row = {"sender": "a@example.org", "sender_messages_7d": messages, "sender_reports_7d": 0}
    row |= {"sender_account_age_days": 9}
    frame = pd.DataFrame([row]).assign(
        event_timestamp=datetime.now(UTC) - timedelta(hours=1), created_timestamp=datetime.now(UTC)
    )
    store.write_to_online_store("sender_activity", frame)


def ask(server: Server) -> httpx.Response:
    return server.client.post("/features", json=ASKED)


def test_it_answers_with_what_was_written_and_what_the_request_has(sqlite: Server) -> None:
    answer = ask(sqlite).json()
    assert answer["features"]["sender_messages_7d"] == [5]
    assert answer["features"]["text_length"] == [15]
    assert answer["views"]["sender_activity"]["status"] == ["present"]
    assert "swagger" in sqlite.client.get("/docs").text
    assert sqlite.client.get("/livez").status_code == 200
    metrics = sqlite.client.get("/metrics").text
    assert 'slipway_features_lookups_total{status="present",view="sender_activity"} 1.0' in metrics


def test_it_answers_while_it_drains_and_leaves_nothing_behind(sqlite: Server) -> None:
    family = sqlite.family()
    sqlite.master.send_signal(signal.SIGTERM)
    wait_for(sqlite, "/ready", 503, seconds=5)
    response = ask(sqlite)
    assert response.status_code == 200
    assert response.headers["connection"] == "close"
    gone, alive = psutil.wait_procs(family, timeout=20)
    assert (len(gone), alive) == (len(family), [])
    lines = sqlite.log.read_text()
    assert '"path":"/features","status":200' in lines


def test_a_redis_that_goes_and_comes_back_needs_no_restart(
    home: Path, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {
        "SLIPWAY_FEATURES_HOME": str(home / "production"),
        "SLIPWAY_FEATURES_REDIS": of_redis(redis)["connection_string"],
        "SLIPWAY_FEATURES_REGISTRY": f"sqlite:///{home}/registry.db",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    description = apply(home / "production", PRODUCTION)
    store = open_store(home / "production", PRODUCTION)
    write(store, 6)
    bento = build_transformer(Features(store=PRODUCTION), description, home)
    with bentoml_serve(bento.tag, home, **variables) as server:
        wait_for(server, "/ready", 200)
        assert ask(server).json()["features"]["sender_messages_7d"] == [6]
        redis.kill()
        for _ in range(3):
            assert_problem(ask(server), 503, "sender_activity does not answer")
        redis.start()
        write(store, 7)
        deadline = time.monotonic() + 20
        while (response := ask(server)).status_code != 200:
            assert time.monotonic() < deadline, response.text
            time.sleep(0.05)
        assert response.json()["features"]["sender_messages_7d"] == [7]
