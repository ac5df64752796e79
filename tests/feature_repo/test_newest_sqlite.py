import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from feast import FeatureStore
from feast.data_source import PushMode
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from feature_repo.materialize import MaterializationError, materialize
from tests.feature_repo.histories import NOW, activity, hours_ago, write

VIEW = "customer_activity"


def push(store: FeatureStore, moment: datetime, purchases: int) -> None:
    frame = activity([(1, moment, purchases)]).to_pandas()
    store.push("customer_activity_push", frame, to=PushMode.ONLINE)


def online(store: FeatureStore) -> tuple[Any, Any]:
    """Purchases of customer 1, and of when they are."""
    view = store.get_feature_view(VIEW)
    key = EntityKey(join_keys=["customer_id"], entity_values=[Value(int64_val=1)])
    provider = store._get_provider()
    [(moment, values)] = provider.online_read(store.config, view, [key], ["num_purchases"])
    return (values["num_purchases"].int64_val if values else None), moment


@pytest.mark.parametrize("pushed_first", [True, False])
@pytest.mark.parametrize(("pushed", "kept"), [(hours_ago(1), 7), (hours_ago(5), 3)])
def test_the_newer_of_a_push_and_a_materialization_stays_in_either_order(
    home: Path, store: FeatureStore, pushed_first: bool, pushed: datetime, kept: int
) -> None:
    write(home, VIEW, activity([(1, hours_ago(3), 3)]))
    steps = [
        lambda: push(store, pushed, 7),
        lambda: materialize(store, VIEW, hours_ago(24), NOW),
    ]
    for step in steps if pushed_first else reversed(steps):
        step()
    assert online(store)[0] == kept


def test_the_newer_one_counts_within_a_second_and_its_time_is_kept_to_the_microsecond(
    store: FeatureStore,
) -> None:
    later = NOW.replace(microsecond=500_001)
    push(store, later, 2)
    push(store, later - timedelta(microseconds=1), 1)
    assert online(store) == (2, later)


def test_of_one_moment_the_last_writer_wins(store: FeatureStore) -> None:
    push(store, NOW, 1)
    push(store, NOW, 2)
    assert online(store) == (2, NOW)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("berlin")
def test_times_hold_in_the_hour_that_summer_time_repeats(store: FeatureStore) -> None:
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    for moment in (first, first + timedelta(hours=1)):
        push(store, moment, 1)
        assert online(store) == (1, moment)


def test_readers_go_on_while_another_process_writes(home: Path, store: FeatureStore) -> None:
    push(store, NOW, 1)
    with sqlite3.connect(home / "online.db", isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM slipway_customer_activity")
        assert online(store)[0] == 1
        writer.execute("ROLLBACK")
    writer.close()


def test_a_full_disk_is_said_to_be_one_and_the_next_batch_is_written(
    home: Path, store: FeatureStore
) -> None:
    push(store, NOW, 1)
    connection = store._get_provider().online_store._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    write(home, VIEW, activity([(number, hours_ago(3), 3) for number in range(2000)]))
    with pytest.raises(MaterializationError, match="full"):
        materialize(store, VIEW, hours_ago(24), NOW)
    push(store, NOW, 2)
    assert online(store)[0] == 2


def test_writers_and_readers_of_many_threads_lose_nothing(store: FeatureStore) -> None:
    def work(thread: int) -> None:
        for minute in range(20):
            push(store, NOW + timedelta(minutes=minute, seconds=thread), minute * 10 + thread)
            values.append(online(store)[0])

    values: list[int | None] = []
    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(values) == 80
    assert None not in values
    assert online(store)[0] == 193


def test_more_entities_than_sqlite_takes_parameters_are_looked_up(store: FeatureStore) -> None:
    push(store, NOW, 5)
    rows = [{"customer_id": customer} for customer in range(40_000)]
    found = store.get_online_features(features=[f"{VIEW}:num_purchases"], entity_rows=rows)
    values = found.to_dict()["num_purchases"]
    assert values[1] == 5
    assert len(values) == 40_000


def test_a_feature_that_a_row_does_not_have_yet_is_none(home: Path, store: FeatureStore) -> None:
    view = store.get_feature_view(VIEW)
    key = EntityKey(join_keys=["customer_id"], entity_values=[Value(int64_val=1)])
    provider = store._get_provider()
    row = (key, {"num_returns": Value(int64_val=5)}, NOW, None)
    provider.online_write_batch(store.config, view, [row], None)
    found = store.get_online_features(
        features=[f"{VIEW}:num_purchases", f"{VIEW}:num_returns"], entity_rows=[{"customer_id": 1}]
    ).to_dict()
    assert (found["num_purchases"], found["num_returns"]) == ([None], [5])
