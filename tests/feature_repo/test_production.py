"""The production profile, on Debian's Redis and PostgreSQL."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from feast import FeatureStore
from feast.data_source import PushMode

from feature_repo.apply import apply
from feature_repo.description import read_description
from feature_repo.historical import training_set
from feature_repo.materialize import materialize
from feature_repo.store import close_store, open_store, private_store
from tests.bentos.model_server.redis_server import RedisServer, redis_server
from tests.deploy.postgres_server import PostgresServer, postgres_server
from tests.feature_repo.histories import NOW, activity, hours_ago, profile, write

VIEW = "customer_activity"
STORE = "feature_store.production.yaml"


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def store(
    home: Path, redis: RedisServer, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FeatureStore]:
    redis.client.flushall()
    socket = redis.url.removeprefix("unix://")
    monkeypatch.setenv("SLIPWAY_FEATURES_REDIS", f"localhost:0,unix_socket_path={socket}")
    monkeypatch.setenv("SLIPWAY_FEATURES_REGISTRY", postgres.url(postgres.create_database()))
    apply(home, STORE)
    opened = open_store(home, STORE)
    yield opened
    close_store(opened)
    online = opened._get_provider().online_store
    if online._client is not None:
        online._client.close()


def served(store: FeatureStore, *customers: int) -> dict[str, Any]:
    found: dict[str, Any] = store.get_online_features(
        features=store.get_feature_service("customer_churn"),
        entity_rows=[{"customer_id": customer} for customer in customers],
    ).to_dict()
    return found


def push(store: FeatureStore, moment: datetime, purchases: int) -> None:
    frame = activity([(1, moment, purchases)]).to_pandas()
    store.push("customer_activity_push", frame, to=PushMode.ONLINE)


def test_what_is_materialized_is_served_and_is_what_training_has(
    home: Path, store: FeatureStore
) -> None:
    write(home, VIEW, activity([(1, hours_ago(5), 1), (1, hours_ago(2), 2)]))
    write(home, "customer_profile", profile([1], hours_ago(4)))
    for view in (VIEW, "customer_profile"):
        materialize(store, view, hours_ago(24), NOW)
    online = served(store, 1, 2)
    asked = pd.DataFrame({"customer_id": [1, 2], "event_timestamp": NOW})
    offline = training_set(store, "customer_churn", asked)
    for feature in read_description(home).service("customer_churn").features:
        known = [None if pd.isna(value) else value for value in offline[feature.name]]
        assert known == online[feature.name]
    assert online["num_purchases"] == [2, None]
    assert not (home / "online.db").exists()
    assert not (home / "registry.db").exists()


@pytest.mark.parametrize(("pushed", "kept"), [(hours_ago(1), 7), (hours_ago(5), 3)])
def test_the_newer_of_a_push_and_a_materialization_stays(
    home: Path, store: FeatureStore, pushed: datetime, kept: int
) -> None:
    write(home, VIEW, activity([(1, hours_ago(3), 3)]))
    push(store, pushed, 7)
    materialize(store, VIEW, hours_ago(24), NOW)
    push(store, pushed, 7)
    assert served(store, 1)["num_purchases"] == [kept]


def test_applying_again_changes_nothing(home: Path, store: FeatureStore) -> None:
    before = store.get_feature_view(VIEW).last_updated_timestamp
    apply(home, STORE)
    store.refresh_registry()
    assert store.get_feature_view(VIEW).last_updated_timestamp == before


def test_a_private_store_serves_the_same_without_the_registry(
    home: Path, store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(store, NOW, 7)
    monkeypatch.setenv("SLIPWAY_FEATURES_REGISTRY", "postgresql+psycopg://127.0.0.1:1/none")
    private = private_store(tmp_path, home, STORE)
    assert served(private, 1)["num_purchases"] == [7]
