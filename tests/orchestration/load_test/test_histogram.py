import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.load_test.histogram import MAX_RELATIVE_ERROR, Histogram, bucket, middle

HOUR = 3600 * 10**9
values = st.lists(
    st.one_of(st.integers(0, 1000), st.integers(0, 10**7), st.integers(0, HOUR)),
    min_size=1,
    max_size=300,
)


def histogram(of: list[int]) -> Histogram:
    made = Histogram()
    for value in of:
        made.record(value)
    return made


@given(values, st.floats(0, 100))
def test_a_percentile_is_the_nearest_rank_s_to_within_one_percent(
    of: list[int], percent: float
) -> None:
    exact = sorted(of)[max(1, math.ceil(percent / 100 * len(of))) - 1]
    found = histogram(of).percentile(percent)
    assert abs(found - exact) <= MAX_RELATIVE_ERROR * exact
    assert MAX_RELATIVE_ERROR <= 0.01


@given(values)
def test_least_most_mean_and_count_are_exact(of: list[int]) -> None:
    made = histogram(of)
    assert (made.least, made.most, made.count) == (min(of), max(of), len(of))
    assert made.mean == sum(of) / len(of)
    assert made.percentiles([0, 100]) == pytest.approx([min(of), max(of)], rel=MAX_RELATIVE_ERROR)


@given(values, values)
def test_merging_is_as_if_all_had_been_recorded_in_one(left: list[int], right: list[int]) -> None:
    merged, percents = histogram(left), [1.0, 50.0, 99.0]
    merged.merge(Histogram())
    merged.merge(histogram(right))
    both = histogram(left + right)
    assert merged.percentiles(percents) == both.percentiles(percents)
    assert (merged.least, merged.most, merged.mean) == (both.least, both.most, both.mean)
    empty = Histogram()
    empty.merge(both)
    assert (empty.least, empty.count) == (both.least, both.count)


@given(st.integers(0, HOUR))
def test_buckets_are_in_the_order_of_the_values_and_bounded(value: int) -> None:
    assert bucket(value) <= bucket(value + 1) <= bucket(value) + 1
    assert bucket(middle(bucket(value))) == bucket(value)
    assert bucket(HOUR) < 5000


def test_of_nothing_nothing_is_known() -> None:
    empty = Histogram()
    assert math.isnan(empty.percentile(50))
    assert math.isnan(empty.mean)
