from hypothesis import given
from hypothesis import strategies as st

from deploy.analysis.counting import added, since
from deploy.events import Counters

numbers = st.integers(min_value=0, max_value=1000)
cells = st.dictionaries(st.sampled_from(["a", "b", "c"]), numbers)
counters = st.builds(
    Counters,
    requests=numbers,
    errors=numbers,
    refusals=numbers,
    durations=cells,
    predictions=cells,
    confidences=cells,
    values=cells,
    rows_squared=numbers,
)


def flat(found: Counters) -> dict[str, int]:
    names = ("durations", "predictions", "confidences", "values")
    inner = {f"{n} {key}": v for n in names for key, v in getattr(found, n).items() if v}
    outer = {n: getattr(found, n) for n in ("requests", "errors", "refusals", "rows_squared")}
    return inner | {key: value for key, value in outer.items() if value}


@given(counters, counters)
def test_what_is_counted_since_is_the_difference(before: Counters, more: Counters) -> None:
    assert flat(since(added(before, more), before)) == flat(more)


@given(counters, counters)
def test_nothing_counted_is_ever_negative_nor_more_than_what_the_server_says(
    now: Counters, before: Counters
) -> None:
    found, all_ = flat(since(now, before)), flat(now)
    assert all(0 < value <= all_[key] for key, value in found.items())


def test_a_gateway_that_was_restarted_counts_from_zero_and_the_server_goes_on() -> None:
    before = Counters(requests=100, errors=1, predictions={"a": 90})
    now = Counters(requests=7, errors=2, predictions={"a": 97})
    assert since(now, before) == Counters(requests=7, errors=2, predictions={"a": 7})


def test_a_server_that_was_restarted_counts_from_zero_and_the_gateway_goes_on() -> None:
    before = Counters(requests=100, durations={"0.1": 95, "+Inf": 2}, predictions={"a": 3, "b": 90})
    now = Counters(requests=150, durations={"0.1": 40, "+Inf": 4}, predictions={"a": 4, "b": 40})
    assert since(now, before) == Counters(
        requests=50, durations={"0.1": 40, "+Inf": 4}, predictions={"a": 4, "b": 40}
    )


def test_a_class_that_has_not_come_again_since_the_restart_shows_it() -> None:
    before = Counters(requests=9, predictions={"a": 3, "b": 6})
    assert since(Counters(requests=20, predictions={"a": 4}), before).predictions == {"a": 4}


def test_a_class_that_was_not_predicted_is_still_a_class() -> None:
    same = Counters(predictions={"a": 0, "b": 6})
    assert since(same, same).predictions == {"a": 0, "b": 0}
