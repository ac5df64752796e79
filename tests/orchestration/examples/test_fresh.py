"""Which rows count when there are labelled answers of the last days."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.examples import iris
from orchestration.examples.fresh import HELD_OUT_SHARE, RECENT_WEIGHT, Rows, split
from orchestration.training import Target, TrainingError, TrainingRequest
from serving_config.monitoring import Drift
from serving_config.schema import Model

NOW = datetime(2026, 3, 10, 14, tzinfo=UTC)
GIVEN = Rows(pd.DataFrame({"n": range(100)}), pd.Series(["a"] * 100))
HELD_OUT = Rows(pd.DataFrame({"n": range(100, 140)}), pd.Series(["a"] * 40))


def _target(fresh: pd.DataFrame | None, **drift: Any) -> Target:
    model = Model(name="m", drift=Drift(**drift))
    return Target(model, "sqlite://", 1, TrainingRequest("drift", "sensor", fresh))


def _fresh(hours_ago: list[float]) -> pd.DataFrame:
    """Rows 1000, 1001, …, oldest first."""
    times = [NOW - timedelta(hours=hours) for hours in sorted(hours_ago, reverse=True)]
    numbers = [1000 + i for i in range(len(times))]
    return pd.DataFrame({"n": numbers, "time": times, "label": "b", "more": None})


@pytest.mark.parametrize("fresh", [None, _fresh([])], ids=["none", "empty"])
def test_without_fresh_rows_nothing_changes(fresh: pd.DataFrame | None) -> None:
    found = split(_target(fresh), GIVEN, HELD_OUT)
    assert (found.fit, found.held_out) == (GIVEN, HELD_OUT)
    assert found.weights is None
    assert found.reference is None


@given(
    st.lists(st.floats(0, 10), min_size=2, max_size=60),
    st.integers(1, 40),
    st.floats(0.1, 5),
)
def test_each_fresh_row_is_fitted_on_or_held_out_and_the_newest_are_held_out(
    hours_ago: list[float], least: int, window: float
) -> None:
    found = split(_target(_fresh(hours_ago), min_rows=least, window_hours=window), GIVEN, HELD_OUT)
    fitted, held_out = found.fit.features["n"].tolist(), found.held_out.features["n"].tolist()
    assert fitted + held_out == [*range(100), *range(1000, 1000 + len(hours_ago))]
    assert held_out
    assert found.fit.labels.tolist() == ["a"] * 100 + ["b"] * (len(fitted) - 100)
    assert found.reference is not None
    reference = found.reference["n"].tolist()
    assert len(reference) >= min(least, len(hours_ago))
    assert reference == list(range(1000, 1000 + len(hours_ago)))[-len(reference) :]
    assert len(held_out) == max(1, round(HELD_OUT_SHARE * len(reference)))
    inside = sum(hours < min(hours_ago) + window for hours in hours_ago)
    assert abs(len(reference) - max(inside, min(max(least, 2), len(hours_ago)))) <= 1
    assert found.weights is not None
    recent = len(reference) - len(held_out)
    assert found.weights[: len(fitted) - recent].tolist() == [1.0] * (len(fitted) - recent)
    assert found.weights[-recent:].sum() == pytest.approx(RECENT_WEIGHT * (len(fitted) - recent))


def test_incomplete_rows_do_not_count_and_whole_numbers_stay_whole() -> None:
    fresh = _fresh([3, 2, 1, 0]).astype({"n": "float64"})
    fresh.loc[1, "n"] = np.nan
    found = split(_target(fresh), GIVEN, HELD_OUT)
    assert found.reference is not None
    assert found.reference["n"].tolist() == [1000, 1002, 1003]
    assert str(found.fit.features["n"].dtype) == "int64"
    with pytest.raises(TrainingError, match="of 1 fresh rows, 1 are complete"):
        split(_target(_fresh([1])), GIVEN, HELD_OUT)


def test_an_input_that_is_not_logged_cannot_be_trained_on() -> None:
    with pytest.raises(TrainingError, match=r"no column 'n': .* prediction_log.never"):
        split(_target(_fresh([1, 2]).drop(columns="n")), GIVEN, HELD_OUT)


def test_an_iris_retrained_on_moved_flowers_knows_them_and_is_made_for_them() -> None:
    rng = np.random.default_rng(1)
    known, held_out = iris.flowers()
    chosen = rng.integers(0, len(known.features), 400)
    moved = 1.4 * known.features.to_numpy()[chosen] + rng.normal(1, 0.1, (400, 4))
    fresh = pd.DataFrame(moved, columns=list(iris.COLUMNS)).assign(
        label=known.labels.to_numpy()[chosen],
        time=pd.date_range(NOW - timedelta(minutes=30), NOW, 400),
    )
    before = iris.fit(2, first=False)
    after = iris.fit(3, first=False, rows=split(_target(fresh), known, held_out))
    assert after.held_out is not None
    rows = Rows(*after.held_out)
    assert iris.metrics(before.estimator, rows)["accuracy"] < 0.7
    assert after.metrics["accuracy"] > 0.9
    assert after.metrics == iris.metrics(after.estimator, rows)
    assert after.reference is not None
    assert len(after.reference) == len(fresh)
    assert set(after.reference["sepal_length"]) == set(fresh["sepal_length"])
