"""What a registered version brings with it: signature, reference rows, digest, lineage."""

import logging
import os
from collections.abc import Callable
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import pytest

from orchestration.examples import churn, iris, registration, spam
from orchestration.examples.registration import HOLD_OUT, REFERENCE, Trained, log_and_register
from orchestration.examples.spam_corpus import generate
from orchestration.training import (
    RegisteredVersion,
    Target,
    TrainingError,
    TrainingRequest,
    explained,
)
from orchestration.training import mlflow_client as client_of
from serving_config.schema import Model

Versions = tuple[RegisteredVersion, RegisteredVersion]
Download = Callable[[str, RegisteredVersion], Path]


def _logged(folder: Path) -> Any:
    from mlflow.models import Model as LoggedModel

    return LoggedModel.load(str(folder))


def _reference(registry: str, version: RegisteredVersion, folder: Path) -> Any:
    import pandas as pd

    path = client_of(registry).download_artifacts(version.run_id, REFERENCE, str(folder))
    return pd.read_parquet(path)


def test_the_signature_names_the_columns_in_order_with_their_types(
    iris_versions: Versions, spam_version: RegisteredVersion, registry: str, download: Download
) -> None:
    for version in iris_versions:
        inputs = _logged(download(registry, version)).signature.inputs
        assert [(c.name, c.type.name) for c in inputs] == [(n, "double") for n in iris.COLUMNS]
    inputs = _logged(download(registry, spam_version)).signature.inputs
    types = {c.name: c.type.name for c in inputs}
    assert list(types) == list(spam.COLUMNS)
    assert (types["email_content"], types["link_count"]) == ("string", "long")
    assert types["capitals_share"] == "double"
    assert all(c.required for c in inputs)


def test_the_model_is_in_skops_format_with_the_types_it_has_to_be_trusted_with(
    iris_versions: Versions, spam_version: RegisteredVersion, registry: str, download: Download
) -> None:
    flavors = [
        _logged(download(registry, version)).flavors["sklearn"]
        for version in (*iris_versions, spam_version)
    ]
    assert {flavor["serialization_format"] for flavor in flavors} == {"skops"}
    trusted = [flavor["skops_trusted_types"] for flavor in flavors]
    assert trusted == [[], ["sklearn.tree._tree.Tree"], []]


def test_the_requirements_are_pinned_to_what_was_installed(
    iris_versions: Versions, registry: str, download: Download
) -> None:
    lines = (download(registry, iris_versions[0]) / "requirements.txt").read_text().split()
    assert f"scikit-learn=={installed('scikit-learn')}" in lines
    assert all("==" in line for line in lines)


def test_the_reference_rows_are_training_rows_with_the_columns_of_the_signature(
    iris_versions: Versions, registry: str, tmp_path: Path
) -> None:
    rows, _ = iris.flowers()
    reference = _reference(registry, iris_versions[1], tmp_path)
    assert list(reference.columns) == list(iris.COLUMNS)
    assert set(reference.dtypes.astype(str)) == {"float64"}
    assert sorted(reference.to_numpy().tolist()) == sorted(rows.features.to_numpy().tolist())


def test_a_large_training_set_leaves_a_sample_of_it(
    spam_version: RegisteredVersion, registry: str, tmp_path: Path
) -> None:
    reference = _reference(registry, spam_version, tmp_path)
    trained_on = {email.text for email in generate(seed=1).train}
    assert reference.shape == (registration.REFERENCE_ROWS, len(spam.COLUMNS))
    assert set(reference[spam.TEXT]) <= trained_on
    assert reference.index.tolist() == list(range(len(reference)))


def test_the_held_out_rows_are_kept_with_their_labels(
    spam_version: RegisteredVersion,
    churn_version: RegisteredVersion,
    iris_versions: Versions,
    registry: str,
    tmp_path: Path,
) -> None:
    import pandas as pd

    columns = {"iris": iris.COLUMNS, "spam-detector": spam.COLUMNS, "customer-churn": churn.COLUMNS}
    for version in (iris_versions[1], spam_version, churn_version):
        client = client_of(registry)
        rows = pd.read_parquet(client.download_artifacts(version.run_id, HOLD_OUT, str(tmp_path)))
        assert list(rows.columns) == [*columns[version.name], "label"]
        assert not rows.isna().to_numpy().any()
        reference = _reference(registry, version, tmp_path)
        pd.testing.assert_series_equal(reference.dtypes, rows.dtypes.drop("label"))


def test_run_and_version_say_why_they_were_trained_and_for_whom(
    iris_versions: Versions, churn_version: RegisteredVersion, registry: str
) -> None:
    def tags(of: dict[str, str]) -> dict[str, str]:
        return {k: v for k, v in of.items() if k.startswith(("slipway.", "feast."))}

    client = client_of(registry)
    for version in (*iris_versions, churn_version):
        found = client.get_model_version(version.name, str(version.version))
        assert tags(found.tags) == tags(client.get_run(version.run_id).data.tags)
    assert tags(found.tags) == {
        "slipway.training_reason": "by hand",
        "feast.feature_service": "customer_churn",
    }
    request = TrainingRequest("drift of sepal_length", "retraining_sensor")
    asked = registration.lineage(Target(Model(name="iris"), registry, 1, request))
    assert asked["slipway.training_reason"] == "drift of sepal_length"
    assert asked["slipway.actor"] == "retraining_sensor"


def test_the_run_names_the_training_data_by_digest(
    iris_versions: Versions, spam_version: RegisteredVersion, registry: str
) -> None:
    digests = []
    for version in (*iris_versions, spam_version):
        (dataset_input,) = client_of(registry).get_run(version.run_id).inputs.dataset_inputs
        assert dataset_input.dataset.name == f"{version.name}-training"
        assert [(tag.key, tag.value) for tag in dataset_input.tags] == [
            ("mlflow.data.context", "training")
        ]
        digests.append(dataset_input.dataset.digest)
    assert digests[0] == digests[1] != digests[2]


def test_version_run_and_logged_model_point_at_each_other(
    iris_versions: Versions, registry: str
) -> None:
    client = client_of(registry)
    version = client.get_model_version("iris", "2")
    run = client.get_run(iris_versions[1].run_id)
    (output,) = run.outputs.model_outputs
    assert version.run_id == run.info.run_id
    assert version.source == f"models:/{output.model_id}"
    assert run.info.status == "FINISHED"
    logged = client.get_logged_model(output.model_id)
    assert logged.status.name == "READY"
    assert {metric.key: metric.value for metric in logged.metrics} == iris_versions[1].metrics
    assert client.get_registered_model("iris").description == "Irises."


def test_training_leaves_no_mlflow_setting_and_no_active_run_behind(
    train_here: Callable[[Model], RegisteredVersion],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somewhere.invalid:5000")
    monkeypatch.setattr(logging.getLogger("mlflow"), "propagate", True)  # else caplog sees nothing
    before = {name: value for name, value in os.environ.items() if "MLFLOW" in name}
    with caplog.at_level(logging.WARNING):
        train_here(Model(name="quiet", training="orchestration.examples.iris:train"))
    assert {name: value for name, value in os.environ.items() if "MLFLOW" in name} == before
    assert mlflow.get_tracking_uri() == "http://somewhere.invalid:5000"
    assert mlflow.active_run() is None
    assert [record.getMessage() for record in caplog.records] == []


def test_a_run_that_fails_half_way_is_marked_failed_and_registers_nothing(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fitted = iris.fit(2, first=False)
    distrusted = Trained(fitted.estimator, fitted.features, fitted.labels, fitted.metrics)
    target = Target(Model(name="distrusted"), registry, None)
    with pytest.raises(TrainingError, match="untrusted types"), explained(registry):
        log_and_register(target, distrusted)
    client = client_of(registry)
    experiment = client.get_experiment_by_name("distrusted")
    (run,) = client.search_runs([experiment.experiment_id])
    (logged,) = client.search_logged_models([experiment.experiment_id])
    assert (run.info.status, logged.status.name) == ("FAILED", "FAILED")
    assert client.search_model_versions("name='distrusted'") == []
