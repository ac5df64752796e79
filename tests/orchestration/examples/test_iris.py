"""The iris example in a real registry."""

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestration.examples import iris
from orchestration.training import RegisteredVersion, latest_version, mlflow_client

Versions = tuple[RegisteredVersion, RegisteredVersion]
Download = Callable[[str, RegisteredVersion], Path]


def test_the_first_version_is_a_logistic_regression_and_the_second_boosted_trees(
    iris_versions: Versions, registry: str
) -> None:
    client = mlflow_client(registry)
    classifiers = [client.get_run(v.run_id).data.params["classifier"] for v in iris_versions]
    assert classifiers == ["LogisticRegression", "GradientBoostingClassifier"]
    assert [version.version for version in iris_versions] == [1, 2]


def test_the_registry_is_asked_which_version_is_the_latest(
    iris_versions: Versions, registry: str
) -> None:
    assert latest_version(registry, "iris") == 2
    assert latest_version(registry, "nobody's model") is None


def test_the_scores_are_good_and_those_of_the_run(iris_versions: Versions, registry: str) -> None:
    for version in iris_versions:
        run = mlflow_client(registry).get_run(version.run_id)
        assert run.data.metrics == version.metrics
        assert 0.9 <= version.metrics["accuracy"] < 1.0
        assert version.metrics["log_loss"] < 0.25


def test_the_logged_score_is_that_of_the_logged_model(
    iris_versions: Versions, registry: str, download: Download
) -> None:
    import skops.io

    _, held_out = iris.flowers()
    for version, trusted in zip(iris_versions, ([], ["sklearn.tree._tree.Tree"]), strict=True):
        model = skops.io.load(download(registry, version) / "model.skops", trusted=trusted)
        assert iris.metrics(model, held_out) == pytest.approx(version.metrics)


def test_two_versions_of_the_boosted_trees_differ() -> None:
    rows = iris.flowers()[1].features
    second, third, again = (iris.fit(seed, first=False) for seed in (2, 3, 2))
    probabilities = [fitted.estimator.predict_proba(rows) for fitted in (second, third, again)]
    assert abs(probabilities[0] - probabilities[1]).max() > 0.01
    assert (probabilities[0] == probabilities[2]).all()


def test_no_flower_is_both_trained_on_and_held_out() -> None:
    rows, held_out = iris.flowers()
    assert not set(rows.features.index) & set(held_out.features.index)
    assert len(rows.features) + len(held_out.features) == 150
    assert set(rows.labels) == set(held_out.labels) == {"setosa", "versicolor", "virginica"}
