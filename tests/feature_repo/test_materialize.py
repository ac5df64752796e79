from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from feast import FeatureStore

from feature_repo.materialize import MaterializationError, materialize
from feature_repo.source_files import SourceError
from tests.feature_repo.histories import NOW, UTC_TIME, activity, hours_ago, write

VIEW = "customer_activity"
START = hours_ago(24)


def online(store: FeatureStore, *customers: int) -> list[Any]:
    found = store.get_online_features(
        features=[f"{VIEW}:num_purchases"],
        entity_rows=[{"customer_id": customer} for customer in customers],
    )
    values: list[Any] = found.to_dict()["num_purchases"]
    return values


def test_the_newest_row_of_each_entity_in_the_window_gets_online(
    home: Path, store: FeatureStore
) -> None:
    rows = [(1, hours_ago(5), 1), (1, hours_ago(2), 2), (2, hours_ago(3), 3)]
    rows += [(2, START - timedelta(microseconds=1), 8), (3, NOW, 9)]
    write(home, VIEW, activity(rows))
    done = materialize(store, VIEW, START, NOW)
    assert online(store, 1, 2, 3) == [2, 3, None]
    assert (done.rows, done.entities, done.duplicates) == (3, 2, 0)
    assert (done.start, done.end, done.newest) == (START, NOW, hours_ago(2))


def test_a_row_at_the_start_is_in_the_window_and_one_at_the_end_in_the_next(
    home: Path, store: FeatureStore
) -> None:
    write(home, VIEW, activity([(1, START, 1), (2, NOW, 2)]))
    assert materialize(store, VIEW, START, NOW).rows == 1
    assert online(store, 1, 2) == [1, None]
    assert materialize(store, VIEW, NOW, NOW + timedelta(hours=1)).rows == 1
    assert online(store, 1, 2) == [1, 2]


def test_windows_in_any_order_leave_the_newest_value(home: Path, store: FeatureStore) -> None:
    write(home, VIEW, activity([(1, hours_ago(30), 1), (1, hours_ago(2), 2)]))
    materialize(store, VIEW, START, NOW)
    materialize(store, VIEW, hours_ago(48), START)
    assert online(store, 1) == [2]


def test_of_two_rows_of_one_moment_the_one_written_later_counts(
    home: Path, store: FeatureStore
) -> None:
    rows = [(1, hours_ago(2), 7), (1, hours_ago(2), 8), (1, hours_ago(2), 9)]
    created = [hours_ago(1.5), hours_ago(1), hours_ago(1.9)]
    write(home, VIEW, activity(rows, created))
    done = materialize(store, VIEW, START, NOW)
    assert (done.rows, done.entities, done.duplicates) == (3, 1, 2)
    assert online(store, 1) == [8]


def test_an_empty_window_is_no_error_and_says_so(home: Path, store: FeatureStore) -> None:
    write(home, VIEW, activity([(1, hours_ago(30), 1)]))
    done = materialize(store, VIEW, START, NOW)
    assert (done.rows, done.newest) == (0, None)
    assert str(done).endswith("no rows")
    assert online(store, 1) == [None]


def test_rows_from_the_future_are_left_out_and_counted(home: Path, store: FeatureStore) -> None:
    write(home, VIEW, activity([(1, NOW, 1), (1, hours_ago(-1), 2), (2, hours_ago(-48), 3)]))
    end = hours_ago(-24)
    done = materialize(store, VIEW, START, end, now=NOW)
    assert (done.rows, done.future, done.newest) == (1, 2, NOW)
    assert "2 rows from the future left out" in str(done)
    assert online(store, 1, 2) == [1, None]
    later = materialize(store, VIEW, START, end, now=end)
    assert (later.rows, later.future) == (2, 1)
    assert online(store, 1, 2) == [2, None]


def test_times_are_compared_as_moments_whatever_their_zone(
    home: Path, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = activity([(1, hours_ago(2), 1), (2, hours_ago(26), 2)])
    place = table.schema.get_field_index("event_timestamp")
    berlin = table["event_timestamp"].cast(pa.timestamp("ms", tz="Europe/Berlin"))
    write(home, VIEW, table.set_column(place, "event_timestamp", berlin))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    done = materialize(store, VIEW, START.astimezone(), NOW)
    assert (done.rows, done.newest) == (1, hours_ago(2))
    assert online(store, 1, 2) == [1, None]


def test_files_may_differ_in_the_order_of_their_columns(home: Path, store: FeatureStore) -> None:
    write(home, VIEW, activity([(1, hours_ago(3), 1)]), "a")
    other = activity([(2, hours_ago(2), 2)])
    write(home, VIEW, other.select(sorted(other.column_names, reverse=True)), "b")
    assert materialize(store, VIEW, START, NOW).rows == 2
    assert online(store, 1, 2) == [1, 2]


def test_a_missing_value_is_none_online_and_the_others_stay(
    home: Path, store: FeatureStore
) -> None:
    write(home, VIEW, activity([(1, hours_ago(3), None), (2, hours_ago(3), 4)]))
    materialize(store, VIEW, START, NOW)
    assert online(store, 1, 2) == [None, 4]


def test_every_batch_of_a_large_window_is_written(home: Path, store: FeatureStore) -> None:
    store.config.materialization_config.online_write_batch_size = 7
    write(home, VIEW, activity([(customer, hours_ago(2), customer) for customer in range(40)]))
    assert materialize(store, VIEW, START, NOW).entities == 40
    assert online(store, *range(40)) == list(range(40))


def without_zone(table: pa.Table) -> pa.Table:
    return replaced(table, "event_timestamp", lambda column: column.cast(pa.timestamp("us")))


def replaced(table: pa.Table, name: str, change: Callable[[Any], Any]) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, change(table[name]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.drop(["num_returns"]), "column num_returns is missing"),
        (lambda table: table.drop(["created_timestamp"]), "column created_timestamp is missing"),
        (
            lambda table: replaced(table, "num_purchases", lambda column: column.cast(pa.string())),
            "column num_purchases is string, and int64 in customer_activity",
        ),
        (
            lambda table: replaced(table, "customer_id", lambda column: column.cast(pa.int32())),
            "column customer_id is int32, and int64",
        ),
        (without_zone, r"event_timestamp has no time zone \(Feast would take it as UTC\)"),
        (
            lambda table: replaced(
                table, "event_timestamp", lambda column: pc.strftime(column, "%Y-%m-%d")
            ),
            "column event_timestamp is string; write timestamps with a time zone",
        ),
        (
            lambda table: replaced(table, "customer_id", lambda _: pa.nulls(1, pa.int64())),
            '1 rows without "customer_id" or "event_timestamp"',
        ),
        (
            lambda table: replaced(table, "event_timestamp", lambda _: pa.nulls(1, UTC_TIME)),
            '1 rows without "customer_id" or "event_timestamp"',
        ),
    ],
)
def test_a_source_that_is_not_what_the_view_says_is_refused_in_one_sentence(
    home: Path, store: FeatureStore, change: Callable[[pa.Table], pa.Table], said: str
) -> None:
    write(home, VIEW, activity([(1, hours_ago(3), 1)]), "a")
    write(home, VIEW, change(activity([(2, hours_ago(3), 2)])), "b")
    with pytest.raises(SourceError, match=said) as caught:
        materialize(store, VIEW, START, NOW)
    assert "\n" not in str(caught.value)
    assert online(store, 1) == [None]


def test_a_source_without_files_and_a_broken_file_are_named(
    home: Path, store: FeatureStore
) -> None:
    with pytest.raises(SourceError, match=r"source customer_activity .* has no \*.parquet file"):
        materialize(store, VIEW, START, NOW)
    file = write(home, VIEW, activity([(1, hours_ago(3), 1)]))
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(SourceError, match=r"data.parquet cannot be read as Parquet"):
        materialize(store, VIEW, START, NOW)


@pytest.mark.parametrize(
    ("view", "start", "end", "said"),
    [
        ("customer", START, NOW, "there is: customer_activity, customer_profile, sender_activity"),
        (VIEW, NOW, START, "before it starts"),
        (VIEW, START, START, "before it starts"),
        (VIEW, START.replace(tzinfo=None), NOW, "start 2026-11-19T12:00:00 has no time zone"),
    ],
)
def test_a_window_that_is_none_is_refused(
    store: FeatureStore, view: str, start: datetime, end: datetime, said: str
) -> None:
    with pytest.raises(MaterializationError, match=said):
        materialize(store, view, start, end)
