"""Live quality from made-up answers whose quality is known."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.monitoring.plots import reliability_svg, scores_svg
from orchestration.monitoring.quality import quality
from serving_config.monitoring import Quality

CLASSES = ("no", "yes")


def answers(rows: int, seed: int = 0, sharpness: float = 1.0) -> pd.DataFrame:
    """Answers whose probabilities are the true ones; sharpness: their logits are so much larger."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, rows)
    truth = np.where(rng.random(rows) < 1 / (1 + np.exp(-logits)), "yes", "no")
    told = 1 / (1 + np.exp(-logits * sharpness))
    return pd.DataFrame(
        {
            "prediction": np.where(told > 0.5, "yes", "no"),
            "truth": truth,
            "probability_no": 1 - told,
            "probability_yes": told,
            "region": rng.choice(["north", "south"], rows),
            "age": rng.normal(40, 10, rows),
        }
    )


def measured(found: pd.DataFrame, **changes: Any) -> Any:
    return quality(found, Quality(**changes), regression=False, classes=CLASSES)


def test_the_metrics_are_those_of_scikit_learn() -> None:
    from sklearn import metrics

    found = answers(2000)
    result = measured(found)
    truth, told = found["truth"] == "yes", found["probability_yes"]
    expected = {
        "accuracy": metrics.accuracy_score(truth, told > 0.5),
        "f1": metrics.f1_score(truth, told > 0.5),  # of "yes"
        "roc_auc": metrics.roc_auc_score(truth, told),
        "brier": 2 * metrics.brier_score_loss(truth, told),
    }
    for name, value in expected.items():
        assert result.metrics[name] == pytest.approx(value), name


def test_a_probability_that_rounding_made_more_than_one_is_one() -> None:
    found = answers(300)
    found.loc[0, "probability_yes"] = float(np.float32(1.0000001))
    assert "roc_auc" in measured(found).metrics
    found.loc[0, "probability_yes"] = 1.1
    assert "roc_auc" not in measured(found).metrics


def test_of_more_than_two_classes_f1_and_auc_are_means() -> None:
    from sklearn import metrics

    rng, classes = np.random.default_rng(0), ("a", "b", "c")
    given = rng.dirichlet([1, 1, 1], 500)
    found = pd.DataFrame(given, columns=[f"probability_{name}" for name in classes])
    found["prediction"] = np.array(classes)[given.argmax(axis=1)]
    found["truth"] = np.where(rng.random(500) < 0.6, found["prediction"], "a")
    result = quality(found, Quality(), regression=False, classes=classes)
    truth, told = found["truth"], found["prediction"]
    assert result.metrics["f1"] == pytest.approx(metrics.f1_score(truth, told, average="macro"))
    area = metrics.roc_auc_score(truth, given, multi_class="ovr", labels=classes)
    assert result.metrics["roc_auc"] == pytest.approx(area)


def test_calibrated_probabilities_have_no_calibration_error_and_bold_ones_have() -> None:
    good, bold = measured(answers(20_000)), measured(answers(20_000, sharpness=4.0))
    assert good.metrics["calibration_error"] < 0.02
    assert bold.metrics["calibration_error"] > 0.1
    assert sum(item.rows for item in good.reliability) == 20_000
    assert reliability_svg(good.reliability).startswith(b"<svg")


@pytest.mark.parametrize(
    ("limit", "verdict"), [(None, "passed"), (0.7, "passed"), (0.95, "failed")]
)
def test_the_limit_decides(limit: float | None, verdict: str) -> None:
    result = measured(answers(2000), limit=limit)
    assert result.verdict == verdict
    assert "accuracy is 0." in result.reason


def test_below_the_wanted_labels_there_is_no_verdict() -> None:
    result = measured(answers(99), limit=0.99)
    assert result.verdict == "not_enough_data"
    assert result.metrics == {}


def test_unknown_classes_and_labels_of_another_type_are_noted_and_do_not_count() -> None:
    found = answers(300)
    found["truth"] = found["truth"].astype(object)
    found.loc[:9, "truth"] = "perhaps"
    found.loc[10:14, "truth"] = 7
    found.loc[15, "truth"] = None
    result = quality(found, Quality(), regression=False, classes=CLASSES, unmatched=3)
    assert result.rows == 284
    said = [note.message for note in result.notes]
    assert said[0] == "3 labels are of answers that the log does not have"
    assert said[1].startswith("16 labels are none of the model's classes ('perhaps')")


def test_slices_tell_a_bad_part_from_a_good_whole() -> None:
    found = answers(4000)
    south = found["region"] == "south"
    found.loc[south & (found.index % 2 == 0), "truth"] = found["prediction"].map(
        {"yes": "no", "no": "yes"}
    )
    found.loc[0, "age"] = np.nan
    result = measured(found, slices=["region", "age", "nowhere"])
    by = {(part.column, part.value): part for part in result.slices}
    assert by["region", "north"].metrics["accuracy"] > 0.75
    assert by["region", "south"].metrics["accuracy"] < 0.6
    quartiles = [part for part in result.slices if part.column == "age"]
    assert len(quartiles) == 5
    assert sum(part.rows for part in quartiles) == 4000
    assert [note.column for note in result.notes] == ["nowhere"]


def test_a_regression_has_its_own_metrics_and_direction() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=1000)
    found = pd.DataFrame({"truth": truth, "prediction": truth + 0.5})
    found.loc[0, "truth"] = np.inf
    for limit, verdict in ((0.6, "passed"), (0.4, "failed")):
        result = quality(found, Quality(metric="rmse", limit=limit), regression=True)
        assert result.verdict == verdict
        assert result.metrics == pytest.approx({"rmse": 0.5, "mae": 0.5})
        assert result.rows == 999


def test_a_metric_that_is_not_defined_gives_no_verdict() -> None:
    found = answers(300).assign(truth="yes")
    result = measured(found, metric="roc_auc", limit=0.5)
    assert result.verdict == "not_enough_data"
    assert "roc_auc is not defined" in result.reason


TRUTHS = st.one_of(st.none(), st.sampled_from(["no", "yes", "x"]), st.floats(), st.booleans())


@given(st.lists(st.tuples(TRUTHS, TRUTHS, st.floats()), max_size=30), st.booleans())
@settings(max_examples=100, deadline=None)
def test_no_table_whatever_is_in_it_makes_it_fail(rows: list[Any], regression: bool) -> None:
    columns = ["truth", "prediction", "probability_yes"]
    found = pd.DataFrame(rows, columns=columns, dtype=object)
    found["probability_yes"] = found["probability_yes"].astype(float)
    found["probability_no"] = 1 - found["probability_yes"]
    wanted = Quality(min_labels=1, slices=("probability_yes", "prediction"))
    result = quality(found, wanted, regression=regression, classes=CLASSES)
    assert result.verdict in ("passed", "not_enough_data")
    assert scores_svg([]).startswith(b"<svg")
