import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.analysis.window import Window, percentile
from deploy.events import Counters

BOUNDS = ("0.01", "0.1", "1.0", "+Inf")


def test_a_window_counts_its_last_seconds_only() -> None:
    window = Window(10)
    for second in range(61):
        window.add(second, Counters(requests=5 * second, durations={"0.1": 4 * second}))
    assert window.counted() == (Counters(requests=50, durations={"0.1": 40}), 10)


def test_a_window_that_has_just_begun_says_over_how_many_seconds_it_counts() -> None:
    window = Window(60)
    assert window.counted() == (Counters(), 0)
    window.add(100, Counters(requests=1000))
    assert window.counted() == (Counters(), 0)
    window.add(103, Counters(requests=1030))
    assert window.counted() == (Counters(requests=30), 3)


def test_looks_that_are_further_apart_than_the_window_still_count() -> None:
    window = Window(1)
    for second in (0, 20, 40):
        window.add(second, Counters(requests=second))
    assert window.counted() == (Counters(requests=20), 20)


def test_a_restart_within_the_window_loses_nothing_that_was_seen() -> None:
    window = Window(60)
    for second, requests in enumerate((100, 110, 4, 9)):
        window.add(second, Counters(requests=requests))
    assert window.counted() == (Counters(requests=19), 3)


@pytest.mark.parametrize(
    ("durations", "share", "seconds"),
    [
        ({}, 0.99, None),
        ({"0.1": 0, "+Inf": 0}, 0.5, None),
        ({"0.01": 0, "0.1": 100, "1.0": 0, "+Inf": 0}, 0.5, 0.055),
        ({"0.01": 0, "0.1": 98, "1.0": 2, "+Inf": 0}, 0.99, 0.55),
        ({"0.01": 0, "0.1": 1, "1.0": 0, "+Inf": 99}, 0.99, 1.0),
    ],
)
def test_a_percentile_is_linear_within_its_bucket(
    durations: dict[str, int], share: float, seconds: float | None
) -> None:
    assert percentile(durations, share) == pytest.approx(seconds)


@given(st.tuples(*[st.integers(0, 50)] * 4).filter(any), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_percentile_is_never_faster(
    counts: tuple[int, ...], one: float, other: float
) -> None:
    durations = dict(zip(BOUNDS, counts, strict=True))
    low, high = (percentile(durations, share) for share in sorted((one, other)))
    assert low is not None
    assert high is not None
    assert 0 <= low <= high <= 1.0
