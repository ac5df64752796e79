"""The spam example: TF-IDF and a logistic regression on the raw text of multilingual e-mails."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orchestration.examples.registration import Trained, log_and_register
from orchestration.examples.spam_corpus import Corpus, Email, generate
from orchestration.training import RegisteredVersion, Target

if TYPE_CHECKING:
    import pandas as pd

COLUMN = "email_content"
VOCABULARY = 8000


def train(target: Target) -> RegisteredVersion:
    """Every version sees other texts, made from the same sentence templates."""
    return log_and_register(target, fit(seed=target.next_version))


def fit(seed: int, size: int = 4000) -> Trained:
    """The trained model; `seed` chooses the texts."""
    corpus = generate(size, seed)
    features, labels = table(corpus.train)
    model = pipeline().fit(features[COLUMN], labels.to_numpy(dtype=str))
    return Trained(
        estimator=model,
        features=features,
        labels=labels,
        metrics=held_out_metrics(model, corpus),
        params={
            "classifier": type(model[-1]).__name__,
            "vocabulary": len(model[0].vocabulary_),
            "corpus_size": size,
            "corpus_seed": seed,
        },
    )


def table(emails: Sequence[Email]) -> "tuple[pd.DataFrame, pd.Series[str]]":
    """One string column, and the labels "ham" and "spam"."""
    import pandas as pd

    features = pd.DataFrame({COLUMN: [email.text for email in emails]})
    return features, pd.Series([email.label for email in emails], name="label")


def pipeline() -> Any:
    """Takes a one-dimensional series of raw texts.

    Lower case and accents are the vectorizer's own preprocessing: what the exporter finds set
    here, the model server repeats in front of the ONNX graph.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    tfidf = TfidfVectorizer(
        strip_accents="ascii",
        lowercase=True,
        token_pattern=r"[a-z0-9_]+",  # noqa: S106 - a pattern of words, not a secret
        max_features=VOCABULARY,
    )
    return Pipeline([("tfidf", tfidf), ("classifier", LogisticRegression(C=10, max_iter=500))])


def held_out_metrics(model: Any, corpus: Corpus) -> dict[str, float]:
    """Accuracy, F1 of spam and ROC AUC on e-mails made of sentences that training never saw."""
    from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

    features, labels = table(corpus.held_out)
    texts = features[COLUMN]
    predicted = model.predict(texts)
    spam_probability = model.predict_proba(texts)[:, list(model.classes_).index("spam")]
    return {
        "accuracy": float(accuracy_score(labels, predicted)),
        "f1": float(f1_score(labels, predicted, pos_label="spam")),
        "roc_auc": float(roc_auc_score(labels == "spam", spam_probability)),
    }
