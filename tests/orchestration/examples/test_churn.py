"""The churn example in a real registry, trained from a real feature store."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from orchestration.examples import churn
from orchestration.examples.feature_data import churn_labels, churn_probability
from orchestration.examples.fresh import Split, split
from orchestration.examples.metrics import binary_metrics
from orchestration.examples.point_in_time import training_rows
from orchestration.training import RegisteredVersion, Target, TrainingRequest
from tests.orchestration.examples.conftest import NOW, SHIPPED

Download = Callable[[str, RegisteredVersion], Path]


def test_it_learns_who_leaves(churn_version: RegisteredVersion) -> None:
    assert 0.75 < churn_version.metrics["roc_auc"] < 0.95
    assert churn_version.metrics["accuracy"] > 0.68


def test_the_same_seed_gives_the_same_model_and_another_one_another(
    features: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_FEATURES_HOME", str(features))
    rows = Split(*churn.by_time(training_rows(churn.SERVICE, churn_labels(NOW, days=5))))
    one, again, other = (churn.fit(seed, rows).estimator for seed in (1, 1, 2))
    probabilities = [m.predict_proba(rows.held_out.features) for m in (one, again, other)]
    assert (probabilities[0] == probabilities[1]).all()
    assert abs(probabilities[0] - probabilities[2]).max() > 0.01


def test_a_retrained_version_is_better_where_the_population_has_moved(
    features: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_FEATURES_HOME", str(features))
    known, held_out = churn.by_time(training_rows(churn.SERVICE, churn_labels(NOW)))
    rng = np.random.default_rng(3)
    fresh = known.features.sample(600, random_state=3).assign(time=NOW)
    fresh["credit_score"] -= 120
    fresh["avg_transaction"] *= 2.5
    leaves = rng.uniform(size=600) < churn_probability(fresh, shift=2.0)
    fresh["label"] = np.where(leaves, "churn", "stay")
    request = TrainingRequest("drift", "test", fresh)
    target = Target(SHIPPED["customer-churn"], "sqlite://", 1, request)
    before = churn.fit(1, split(Target(target.model, "sqlite://", 1), known, held_out))
    rows = split(target, known, held_out)
    after = churn.fit(2, rows)
    assert len(rows.held_out.features) == 180
    old = binary_metrics(before.estimator, rows.held_out, "churn")
    assert after.metrics["accuracy"] > old["accuracy"]
    assert after.metrics["roc_auc"] > old["roc_auc"]
    assert rows.reference is not None
    assert len(rows.reference) == 600
