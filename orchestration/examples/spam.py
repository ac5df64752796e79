"""The spam example: a logistic regression on an e-mail's text, its statistics and its sender."""

from datetime import datetime, timedelta
from typing import Any

from orchestration.examples.feature_data import emails_with_senders
from orchestration.examples.fresh import Rows, Split, split
from orchestration.examples.metrics import binary_metrics
from orchestration.examples.point_in_time import ready_sources, training_rows
from orchestration.examples.registration import LABEL, Trained, log_and_register
from orchestration.examples.spam_corpus import Corpus, generate
from orchestration.training import RegisteredVersion, Target

SERVICE = "spam_detector"
TEXT = "email_content"
SENDER = ("sender_messages_7d", "sender_reports_7d", "sender_account_age_days")
STATISTICS = (
    "text_length",
    "word_count",
    "capitals_share",
    "digits_share",
    "link_count",
    "exclamation_count",
)
COLUMNS = (TEXT, *SENDER, *STATISTICS)
VOCABULARY = 8000
HISTORY = timedelta(days=28)


def train(target: Target) -> RegisteredVersion:
    """Every version sees other texts, made from the same sentence templates."""
    seed = target.next_version
    rows = split(target, *by_time(generate(seed=seed), ready_sources(), seed))
    return log_and_register(target, fit(seed, rows))


def by_time(corpus: Corpus, until: datetime, seed: int) -> tuple[Rows, Rows]:
    """Rows to fit on, and held-out ones: newer e-mails, made of sentences that no older one has."""
    import pandas as pd

    total = len(corpus.train) + len(corpus.held_out)
    cut = until - HISTORY * (len(corpus.held_out) / total)
    older = emails_with_senders(corpus.train, until - HISTORY, cut, seed)
    newer = emails_with_senders(corpus.held_out, cut, until, seed)
    rows = training_rows(SERVICE, pd.concat([older, newer], ignore_index=True))
    rows = rows.sort_values(["event_timestamp", TEXT], ignore_index=True)
    first, second = rows[rows[TEXT].isin(older[TEXT])], rows[rows[TEXT].isin(newer[TEXT])]
    columns = list(COLUMNS)
    return Rows(first[columns], first[LABEL]), Rows(second[columns], second[LABEL])


def fit(seed: int, rows: Split) -> Trained:
    """The trained model; `seed` has chosen the texts."""
    model = pipeline()
    labels = rows.fit.labels.to_numpy(dtype=str)
    model.fit(rows.fit.features, labels, classifier__sample_weight=rows.weights)
    vectorizer = model["columns"].named_transformers_["text"]
    return Trained(
        estimator=model,
        features=rows.fit.features,
        labels=rows.fit.labels,
        metrics=binary_metrics(model, rows.held_out, "spam"),
        params={
            "classifier": type(model[-1]).__name__,
            "vocabulary": len(vectorizer.vocabulary_),
            "corpus_seed": seed,
        },
        held_out=(rows.held_out.features, rows.held_out.labels),
        reference=rows.reference,
    )


def pipeline() -> Any:
    """Lower case and accents are the vectorizer's own preprocessing: what the exporter finds set
    here, the model server repeats in front of the ONNX graph."""
    from sklearn.compose import ColumnTransformer
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    tfidf = TfidfVectorizer(
        strip_accents="ascii",
        lowercase=True,
        token_pattern=r"[a-z0-9_]+",  # noqa: S106 - a pattern of words, not a secret
        max_features=VOCABULARY,
    )
    columns = ColumnTransformer(
        [("text", tfidf, TEXT), ("numbers", StandardScaler(), [*SENDER, *STATISTICS])]
    )
    return Pipeline([("columns", columns), ("classifier", LogisticRegression(C=10, max_iter=2000))])
