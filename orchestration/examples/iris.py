"""The iris example: version 1 is a logistic regression, later versions are boosted trees."""

from typing import Any

from orchestration.examples.fresh import HELD_OUT_SHARE, Rows, Split, split
from orchestration.examples.registration import Trained, log_and_register
from orchestration.training import RegisteredVersion, Target

COLUMNS = ("sepal_length", "sepal_width", "petal_length", "petal_width")
# The same rows are held out for every version, so their scores can be compared.
SPLIT_SEED = 20


def train(target: Target) -> RegisteredVersion:
    """Register a logistic regression if the registry has no version yet, else boosted trees."""
    rows = split(target, *flowers())
    first = target.latest_version is None
    return log_and_register(target, fit(target.next_version, first, rows))


def fit(seed: int, first: bool, rows: Split | None = None) -> Trained:
    """The trained model; `seed` makes one version of the boosted trees differ from the next."""
    rows = rows or Split(*flowers())
    pipeline = _logistic_regression() if first else _boosted_trees(seed)
    labels = rows.fit.labels.to_numpy(dtype=str)
    pipeline.fit(rows.fit.features, labels, classifier__sample_weight=rows.weights)
    classifier = pipeline[-1]
    params: dict[str, str | int | float] = {"classifier": type(classifier).__name__}
    if not first:
        params |= {"random_state": seed, "n_estimators": classifier.n_estimators}
    return Trained(
        estimator=pipeline,
        features=rows.fit.features,
        labels=rows.fit.labels,
        metrics=metrics(pipeline, rows.held_out),
        params=params,
        trusted_types=() if first else ("sklearn.tree._tree.Tree",),
        held_out=(rows.held_out.features, rows.held_out.labels),
        reference=rows.reference,
    )


def flowers() -> tuple[Rows, Rows]:
    """Rows to fit on and held-out rows; centimetres as float64."""
    from sklearn.datasets import load_iris
    from sklearn.model_selection import train_test_split

    data = load_iris(as_frame=True)
    features = data.data.set_axis(list(COLUMNS), axis=1)
    labels = data.target.map(dict(enumerate(data.target_names.tolist()))).rename("species")
    rows, held_out, row_labels, held_out_labels = train_test_split(
        features, labels, test_size=HELD_OUT_SHARE, stratify=labels, random_state=SPLIT_SEED
    )
    return Rows(rows, row_labels), Rows(held_out, held_out_labels)


def metrics(pipeline: Any, held_out: Rows) -> dict[str, float]:
    """Accuracy and log loss."""
    from sklearn.metrics import accuracy_score, log_loss

    labels, probabilities = held_out.labels, pipeline.predict_proba(held_out.features)
    return {
        "accuracy": float(accuracy_score(labels, pipeline.predict(held_out.features))),
        "log_loss": float(log_loss(labels, probabilities, labels=list(pipeline.classes_))),
    }


def _logistic_regression() -> Any:
    from sklearn.linear_model import LogisticRegression

    return _scaled(LogisticRegression(max_iter=500))


def _boosted_trees(seed: int) -> Any:
    """Without a subsample the seed would only break ties, and versions would hardly differ."""
    from sklearn.ensemble import GradientBoostingClassifier

    return _scaled(
        GradientBoostingClassifier(
            n_estimators=40, max_depth=2, subsample=0.8, random_state=seed % 2**32
        )
    )


def _scaled(classifier: Any) -> Any:
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    return Pipeline([("scaler", StandardScaler()), ("classifier", classifier)])
