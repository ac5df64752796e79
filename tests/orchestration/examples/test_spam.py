"""The spam example: what it scores, and how much text and sender count."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from orchestration.examples import spam
from orchestration.examples.fresh import Rows
from orchestration.examples.metrics import binary_metrics
from orchestration.examples.registration import HOLD_OUT, REFERENCE
from orchestration.training import RegisteredVersion, mlflow_client

Download = Callable[[str, RegisteredVersion], Path]


@pytest.fixture(scope="module")
def model(spam_version: RegisteredVersion, registry: str, download: Download) -> Any:
    import skops.io

    return skops.io.load(download(registry, spam_version) / "model.skops", trusted=[])


@pytest.fixture(scope="module")
def held_out(
    spam_version: RegisteredVersion, registry: str, tmp_path_factory: pytest.TempPathFactory
) -> Rows:
    folder = str(tmp_path_factory.mktemp("holdout"))
    path = mlflow_client(registry).download_artifacts(spam_version.run_id, HOLD_OUT, folder)
    rows = pd.read_parquet(path)
    return Rows(rows.drop(columns="label"), rows["label"])


def test_the_held_out_score_is_good_and_still_leaves_something_to_learn(
    spam_version: RegisteredVersion,
) -> None:
    assert 0.88 < spam_version.metrics["accuracy"] < 0.995
    assert 0.87 < spam_version.metrics["f1"] < 0.995
    assert 0.95 < spam_version.metrics["roc_auc"] < 1.0


def test_the_logged_score_is_that_of_the_logged_model(
    spam_version: RegisteredVersion, model: Any, held_out: Rows
) -> None:
    assert binary_metrics(model, held_out, "spam") == pytest.approx(spam_version.metrics)
    assert model.classes_.tolist() == ["ham", "spam"]
    vocabulary = model["columns"].named_transformers_["text"].vocabulary_
    assert 500 < len(vocabulary) <= spam.VOCABULARY


def test_the_text_decides_mostly_and_the_sender_matters(model: Any, held_out: Rows) -> None:
    with_all = binary_metrics(model, held_out, "spam")["roc_auc"]
    same_sender = {name: int(held_out.features[name].median()) for name in spam.SENDER}
    without_sender = Rows(held_out.features.assign(**same_sender), held_out.labels)
    without_text = Rows(held_out.features.assign(email_content=""), held_out.labels)
    assert with_all > binary_metrics(model, without_sender, "spam")["roc_auc"] + 0.002
    assert with_all > binary_metrics(model, without_text, "spam")["roc_auc"] + 0.03


def test_many_reports_and_a_young_account_make_a_mail_more_suspicious(
    model: Any, held_out: Rows
) -> None:
    def suspicion(**sender: int) -> Any:
        rows = held_out.features.assign(**sender)
        return model.predict_proba(rows)[:, 1]

    known = suspicion(sender_reports_7d=0, sender_account_age_days=2000)
    reported = suspicion(sender_reports_7d=12, sender_account_age_days=9)
    assert (reported >= known).all()
    assert (reported - known).mean() > 0.05


def test_no_held_out_mail_was_trained_on(
    spam_version: RegisteredVersion, held_out: Rows, registry: str, tmp_path: Path
) -> None:
    client = mlflow_client(registry)
    path = client.download_artifacts(spam_version.run_id, REFERENCE, str(tmp_path))
    assert not set(pd.read_parquet(path)[spam.TEXT]) & set(held_out.features[spam.TEXT])
