"""The spam example: what it scores, and that it takes raw text."""

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestration.examples import spam
from orchestration.examples.spam_corpus import generate
from orchestration.training import RegisteredVersion

Download = Callable[[str, RegisteredVersion], Path]


def test_the_score_on_unseen_sentences_is_good_but_not_perfect(
    spam_version: RegisteredVersion,
) -> None:
    assert 0.88 < spam_version.metrics["accuracy"] < 0.995
    assert 0.87 < spam_version.metrics["f1"] < 0.995
    assert 0.95 < spam_version.metrics["roc_auc"] < 1.0


def test_the_logged_score_is_that_of_the_logged_model_loaded_without_any_trust(
    spam_version: RegisteredVersion, registry: str, download: Download
) -> None:
    import skops.io

    model = skops.io.load(download(registry, spam_version) / "model.skops", trusted=[])
    recomputed = spam.held_out_metrics(model, generate(seed=1))
    assert recomputed == pytest.approx(spam_version.metrics)


def test_case_and_accents_make_no_difference() -> None:
    model = spam.fit(seed=1, size=400).estimator
    texts = ["FÉLICITATIONS, votre Prêt est prêt", "felicitations, votre pret est pret"]
    first, second = model.predict_proba(texts)
    assert (first == second).all()


def test_every_version_sees_other_texts() -> None:
    first, second = (spam.fit(seed, size=400).features for seed in (1, 2))
    assert not set(first[spam.COLUMN]) & set(second[spam.COLUMN])


def test_the_classes_are_ham_and_spam_and_the_vocabulary_is_limited() -> None:
    fitted = spam.fit(seed=1, size=400)
    assert fitted.estimator.classes_.tolist() == ["ham", "spam"]
    assert 500 < len(fitted.estimator[0].vocabulary_) <= spam.VOCABULARY
