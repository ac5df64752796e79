"""What is called drift, on samples of known distributions."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.monitoring.drift import Sample, drift
from serving_config.monitoring import Drift
from tests.orchestration.monitoring.samples import KINDS, frame, sample, texts

DRIFT = Drift()


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def changed(current: Sample, **columns: Any) -> Sample:
    return Sample(current.features.assign(**columns), current.predictions)


def by_name(result: Any) -> dict[str, Any]:
    return {found.name: found for found in result.columns}


def test_the_same_traffic_is_no_drift_and_another_one_is() -> None:
    reference = sample(rng(1), 2000)
    same = drift(reference, sample(rng(2), 1000), KINDS, DRIFT).result
    assert (same.verdict, same.share, same.notes) == ("passed", 0.0, ())
    assert same.checks == {"data_drift": True, "prediction_drift": True}
    shifted = drift(reference, sample(rng(2), 1000, shift=1), KINDS, DRIFT).result
    assert (shifted.verdict, shifted.share) == ("failed", 1.0)
    assert shifted.checks == {"data_drift": False, "prediction_drift": False}
    assert "4 of 4 columns have drifted (amount" in shifted.reason


@pytest.mark.parametrize("reference_rows", [112, 3000])
def test_chance_is_hardly_ever_called_drift_in_the_smallest_window(reference_rows: int) -> None:
    runs, columns, failed = 200, 0, 0
    for seed in range(runs):
        random = rng(seed)
        reference, current = sample(random, reference_rows), sample(random, DRIFT.min_rows)
        found = drift(reference, current, KINDS, DRIFT).result
        columns += sum(column.drifted for column in found.columns)
        failed += found.verdict == "failed"
    assert columns / (runs * len(KINDS)) < 0.01
    assert failed / runs < 0.01


@pytest.mark.parametrize("reference_rows", [112, 3000])
def test_a_real_shift_is_found_in_the_smallest_window(reference_rows: int) -> None:
    runs = 100
    missed = 0
    for seed in range(runs):
        random = rng(seed)
        reference = sample(random, reference_rows)
        current = sample(random, DRIFT.min_rows, shift=0.8)
        missed += drift(reference, current, KINDS, DRIFT).result.verdict != "failed"
    assert missed / runs < 0.01


@pytest.mark.parametrize(("rows", "reference_rows"), [(199, 1000), (0, 1000), (1000, 29)])
def test_with_too_few_rows_there_is_neither_drift_nor_no_drift(
    rows: int, reference_rows: int
) -> None:
    found = drift(sample(rng(), reference_rows), sample(rng(), rows, shift=1), KINDS, DRIFT).result
    assert found.verdict == "not_enough_data"
    assert found.reason.startswith("not enough data: ")
    assert found.checks == {}
    assert found.share is None


def test_a_missing_and_an_empty_column_have_drifted() -> None:
    reference, current = sample(rng(1), 1000), sample(rng(2), 1000)
    current = changed(current, visits=np.nan, premium=None)
    current = Sample(current.features.drop(columns="amount"), current.predictions)
    found = drift(reference, current, KINDS, DRIFT).result
    assert {name for name, column in by_name(found).items() if column.drifted} == {
        "amount",
        "visits",
        "premium",
    }
    assert found.verdict == "failed"
    assert {(note.column, note.severity) for note in found.notes} == {
        ("amount", "error"),
        ("visits", "error"),
        ("premium", "error"),
    }


def test_a_few_missing_values_more_are_drift_of_their_own() -> None:
    reference, current = sample(rng(1), 5000), sample(rng(2), 1000)
    current.features.loc[:99, ["amount", "region"]] = None
    found = by_name(drift(reference, current, KINDS, DRIFT).result)
    assert found["amount"].drifted
    assert found["region"].drifted


def test_new_constant_and_mistyped_columns_are_noted() -> None:
    reference, current = sample(rng(1), 1000), sample(rng(2), 1000)
    mixed = current.features["amount"].astype(object)
    mixed[:3] = "a lot"
    current = changed(current, amount=mixed, region="north", extra=1)
    notes = {note.column: note for note in drift(reference, current, KINDS, DRIFT).result.notes}
    assert set(notes) == {"amount", "region", "extra"}
    assert "3 of 1000 values have the wrong type" in notes["amount"].message
    assert "the same value in every row" in notes["region"].message
    assert (notes["extra"].severity, "is new" in notes["extra"].message) == ("info", True)


def test_one_absurd_value_neither_hides_a_shift_nor_makes_one() -> None:
    reference = sample(rng(1), 1000)
    same, shifted = sample(rng(2), 1000), sample(rng(2), 1000, shift=1)
    for current in (same, shifted):
        current.features.loc[0, "amount"] = 1e12
    assert not by_name(drift(reference, same, KINDS, DRIFT).result)["amount"].drifted
    assert by_name(drift(reference, shifted, KINDS, DRIFT).result)["amount"].drifted


def test_values_that_the_reference_never_had_are_drift() -> None:
    reference, current = sample(rng(1), 5000), sample(rng(2), 1000)
    current.features.loc[:99, "region"] = "atlantis"
    current.features.loc[:99, "amount"] = -1.0
    found = by_name(drift(reference, current, KINDS, DRIFT).result)
    assert found["region"].drifted
    assert found["amount"].drifted


def test_true_one_and_1_0_are_the_same_category() -> None:
    reference, current = sample(rng(1), 1000), sample(rng(2), 1000)
    current = changed(current, premium=current.features["premium"].astype(int))
    assert not by_name(drift(reference, current, KINDS, DRIFT).result)["premium"].drifted


def test_a_regression_is_watched_by_its_values() -> None:
    reference, current = sample(rng(1), 1000), sample(rng(2), 1000)
    values = rng(3).normal(size=1000)
    for shift, passed in ((0, True), (2, False)):
        found = drift(
            Sample(reference.features, pd.Series(values)),
            Sample(current.features, pd.Series(rng(4).normal(shift, size=1000))),
            KINDS,
            DRIFT,
            regression=True,
        ).result
        assert found.checks["prediction_drift"] is passed
        assert found.prediction is not None
        assert found.prediction.kind == "number"


@pytest.mark.parametrize("kind", ["text", "category"])
def test_texts_are_told_apart_by_their_statistics(kind: Any) -> None:
    def of(seed: int, rows: int, shift: float) -> Sample:
        random = rng(seed)
        found = pd.DataFrame({"email": texts(random, rows, shift)})
        return Sample(found, pd.Series(random.choice(["ham", "spam"], rows)))

    reference = of(1, 1000, 0)
    kinds: Any = {"email": kind}  # a string with as many values as rows is a text, too
    same = drift(reference, of(2, 400, 0), kinds, DRIFT).result
    assert same.checks == {"data_drift": True, "prediction_drift": True, "text_drift": True}
    shifted = drift(reference, of(2, 400, 0.5), kinds, DRIFT).result
    assert shifted.checks["text_drift"] is False
    assert shifted.columns[0].kind == "text"
    assert shifted.columns[0].statistic == "share of unknown words"


def test_texts_of_the_training_data_that_come_back_are_no_drift() -> None:
    random = rng(1)
    found = pd.DataFrame(
        {"email": [f"{text} {random.integers(1e6)}" for text in texts(random, 900)]}
    )
    known = Sample(found, pd.Series(["ham"] * 900))
    again = Sample(found[:600], pd.Series(["ham"] * 600))
    assert drift(known, again, {"email": "text"}, DRIFT).result.verdict == "passed"


def test_chance_is_no_drift_of_a_text_either() -> None:
    wrong = 0
    for seed in range(100):
        random = rng(seed)
        samples = [
            Sample(pd.DataFrame({"email": texts(random, rows)}), pd.Series(["ham"] * rows))
            for rows in (200, 200)
        ]
        found = drift(*samples, {"email": "text"}, DRIFT).result
        wrong += found.verdict == "failed"
    assert wrong <= 1


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=3),
    st.dates(),
    st.lists(st.integers(), max_size=2),
    st.complex_numbers(),
)
COLUMNS = st.one_of(
    st.lists(VALUES, min_size=40, max_size=40).map(lambda v: pd.Series(v, dtype=object)),
    VALUES.map(lambda v: pd.Series([v] * 40, dtype=object)),
    st.lists(st.floats(), min_size=40, max_size=40).map(pd.Series),
    st.lists(st.integers(-5, 5) | st.none(), min_size=40, max_size=40).map(
        lambda v: pd.Series(v, dtype="Int64")
    ),
    st.lists(st.text(max_size=5), min_size=40, max_size=40).map(
        lambda v: pd.Series(v, dtype="string")
    ),
    st.just(pd.Series(pd.date_range("2026-01-01", periods=40, tz="UTC"))),
    st.just(pd.Series(["a", "b"] * 20, dtype="category")),
)
FRAMES = st.dictionaries(
    st.sampled_from(["amount", "visits", "region", "premium", "email", "other"]), COLUMNS
).map(lambda columns: pd.DataFrame(columns, index=range(40)))


@given(FRAMES, FRAMES, COLUMNS, COLUMNS, st.booleans())
@settings(max_examples=200, deadline=None)
def test_no_frame_whatever_is_in_it_makes_it_fail(
    reference: pd.DataFrame, current: pd.DataFrame, was: Any, now: Any, regression: bool
) -> None:
    kinds: Any = KINDS | {"email": "text"}
    wanted = Drift(min_rows=1)
    found = drift(
        Sample(reference, was), Sample(current, now), kinds, wanted, regression=regression
    ).result
    assert found.verdict in ("passed", "failed")
    assert 0 <= (found.share or 0) <= 1
    for column in found.columns:
        assert column.score is None or np.isfinite(column.score)
        if column.name not in current.columns or current[column.name].isna().all():
            assert column.drifted or reference[column.name].isna().all() or column.score is None
    noted = {note.column for note in found.notes}
    assert {name for name in kinds if name in reference and name not in current} <= noted
    assert set(current.columns) - set(kinds) <= noted


def test_a_column_that_is_there_twice_is_read_once_and_noted() -> None:
    reference, current = sample(rng(1), 500), sample(rng(2), 500)
    twice = pd.concat([current.features, frame(rng(3), 500)[["amount"]]], axis=1)
    found = drift(reference, Sample(twice, current.predictions), KINDS, DRIFT).result
    assert found.verdict == "passed"
    assert [note.message for note in found.notes] == ["is in the window twice: the first counts"]
