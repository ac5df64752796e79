from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orchestration.features.replay import sample
from orchestration.features.windows import rfc3339
from orchestration.monitoring.skew import Asked, Served, Values, audit, same
from tests.orchestration.features.homes import NOW, SERVICE

VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


def served(age: Any, status: str = "present", second: str = rfc3339(NOW)) -> Served:
    looks = {"profile": {"as_of": second, "status": status}}
    return Served("r", 0, NOW + timedelta(minutes=1), {"customer_id": 1}, looks, {"age": age})


@given(st.lists(st.tuples(VALUES, VALUES), max_size=5))
def test_every_value_that_is_not_the_same_is_a_difference_and_no_other(
    pairs: list[tuple[Any, Any]],
) -> None:
    rows = [replace(served(online), row=i) for i, (online, _) in enumerate(pairs)]

    def offline(asked: Sequence[Asked]) -> list[Values]:
        return [{"age": value} for _, value in pairs]

    found = audit(rows, SERVICE, (), offline)
    wrong = [i for i, (online, value) in enumerate(pairs) if not same(online, value)]
    assert [item.served.row for item in found.differences] == wrong
    assert found.values == len(pairs)


def test_missing_equals_missing_and_nothing_else() -> None:
    nan = float("nan")
    assert same(None, nan)
    assert same(nan, nan)
    assert not same(None, 0)
    assert not same("", nan)
    assert not same(0.1 + 0.2, 0.3)


def test_a_whole_second_stands_for_all_of_it() -> None:
    asked: list[Asked] = []

    def offline(items: Sequence[Asked]) -> list[Values]:
        asked.extend(items)
        return [{"age": 1} for _ in items]

    audit([served(1), served(1, second="2025-11-20T10:20:00.25+00:00")], SERVICE, (), offline)
    assert [item.at.microsecond for item in asked] == [999_999, 250_000]


@given(st.integers(0, 500), st.integers(1, 100), st.text())
def test_a_sample_is_bounded_and_the_same_for_the_same_seed(
    rows: int, limit: int, seed: str
) -> None:
    chosen = sample(rows, limit, seed)
    assert chosen == sample(rows, limit, seed)
    assert len(set(chosen)) == min(rows, limit)
    assert chosen == sorted(chosen)
    assert all(0 <= index < rows for index in chosen)
