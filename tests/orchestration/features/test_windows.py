from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.defs.features.partitions import covered, view_partitions
from orchestration.features.windows import (
    BEGINNING,
    Every,
    last_key,
    last_window,
    span,
    window_key,
    windows,
)
from tests.orchestration.features.homes import NOW, hour

HOURS = st.integers(0, 48).map(lambda number: hour(0, 1) + timedelta(hours=number))
RUNS = st.lists(st.tuples(HOURS, st.integers(1, 5), st.booleans()), max_size=20)


@given(RUNS)
def test_whatever_fails_or_is_missed_nothing_before_the_watermark_is_left_out(
    runs: list[tuple[datetime, int, bool]],
) -> None:
    watermark: datetime | None = None
    done: list[tuple[datetime, datetime]] = []
    for start, hours, succeeds in runs:
        wanted = span(watermark, start, start + timedelta(hours=hours))
        assert wanted.start <= start
        assert wanted.end == start + timedelta(hours=hours)
        if succeeds:
            done.append((wanted.start, wanted.end))
            assert watermark is None or wanted.until >= watermark
            watermark = wanted.until
    reached = BEGINNING
    for begun, ended in sorted(done):
        assert begun <= reached  # no gap
        reached = max(reached, ended)
    assert reached == (watermark or BEGINNING)


def test_a_window_before_the_watermark_is_done_alone() -> None:
    wanted = span(hour(10), hour(3), hour(4))
    assert (wanted.start, wanted.end, wanted.until) == (hour(3), hour(4), hour(10))


@pytest.mark.parametrize(
    ("every", "expected"),
    [("hour", (hour(9), hour(10))), ("day", (hour(0, 19), hour(0, 20)))],
)
def test_the_last_window_is_the_last_one_that_is_over(
    every: Every, expected: tuple[datetime, datetime]
) -> None:
    assert last_window(every, NOW) == expected
    assert last_window(every, expected[1]) == expected


@given(st.sampled_from(["hour", "day"]), st.datetimes(datetime(2025, 1, 2), datetime(2026, 1, 1)))
def test_keys_are_those_that_dagster_gives_its_partitions(every: Every, naive: datetime) -> None:
    now = naive.replace(tzinfo=UTC)
    partitions = view_partitions(every, now)
    keys = partitions.get_partition_keys(current_time=now)
    assert last_key(every, now) == keys[-1]
    starts = windows(every, partitions.start, now)
    assert [window_key(every, start) for start in starts] == list(keys)
    assert len(keys) <= 72


def test_windows_that_are_only_touched_are_not_covered() -> None:
    start, end = hour(3) + timedelta(minutes=1), hour(6) - timedelta(minutes=1)
    assert windows("hour", start, end) == [hour(4)]
    assert windows("hour", hour(3), hour(3)) == []
    assert windows("hour", end, start) == []


def test_a_run_reports_the_windows_it_caught_up_and_not_its_own_or_unlisted_ones() -> None:
    own = {window_key("hour", hour(9))}
    found = covered("hour", hour(6), BEGINNING, hour(10), own)
    assert found == ["2025-11-20-06:00", "2025-11-20-07:00", "2025-11-20-08:00"]


def test_partitions_are_in_utc() -> None:
    partitions = view_partitions("day", NOW)
    assert isinstance(partitions, dg.TimeWindowPartitionsDefinition)
    assert partitions.timezone == "UTC"
