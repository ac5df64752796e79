import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.load_test.plan import SECOND, ClosedLoop, OpenLoop

rates = st.one_of(st.integers(1, 50_000).map(float), st.floats(0.01, 50_000))
seconds = st.floats(0.01, 100)


@given(rates, seconds, st.sampled_from([0.0, 0.1, 1.0, 3.3]))
def test_requests_fall_due_at_a_constant_rate_from_the_start(
    rate: float, duration: float, warm_up: float
) -> None:
    plan = OpenLoop(rate=rate, duration=duration, warm_up=warm_up)
    assert plan.due(0) == 0
    assert plan.due(1000) == pytest.approx(1000 * SECOND / rate, abs=1)
    first = plan.first_counted
    assert plan.due(first) >= plan.counted_from
    assert first == 0 or plan.due(first - 1) < plan.counted_from
    assert plan.total - first == max(1, round(rate * duration))
    assert plan.end == plan.due(plan.total)


@given(rates, st.integers(0, 10 * SECOND))
def test_what_is_due_by_a_time_is_what_fell_due_before_it(rate: float, elapsed: int) -> None:
    plan = OpenLoop(rate=rate, duration=5)
    due = plan.due_by(elapsed)
    assert 0 < due <= plan.total
    assert plan.due(due - 1) <= elapsed + 1
    assert due == plan.total or plan.due(due) >= elapsed - 1


def test_a_number_of_requests_ends_it_before_the_duration_does() -> None:
    assert OpenLoop(rate=100, duration=10, requests=30, warm_up=0).total == 30
    assert OpenLoop(rate=100, duration=0.1, requests=30, warm_up=0).total == 10
    assert OpenLoop(rate=100, duration=None, requests=30, warm_up=1).total == 130
    assert ClosedLoop(duration=None, requests=30).end is None
    assert ClosedLoop(duration=2, warm_up=1).end == 3 * SECOND


def test_a_load_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="a duration or a number of requests"):
        ClosedLoop(duration=None)
