"""The churn example: boosted trees on ten features of customers, from the feature store."""

from typing import TYPE_CHECKING, Any

from orchestration.examples.feature_data import CHURN, churn_labels
from orchestration.examples.fresh import Rows, Split, split
from orchestration.examples.metrics import binary_metrics
from orchestration.examples.point_in_time import ready_sources, training_rows
from orchestration.examples.registration import LABEL, Trained, log_and_register
from orchestration.training import RegisteredVersion, Target

if TYPE_CHECKING:
    import pandas as pd

SERVICE = "customer_churn"
NUMBERS = (
    "age",
    "income",
    "credit_score",
    "num_purchases",
    "account_age_days",
    "avg_transaction",
    "num_returns",
    "is_premium",
)
CATEGORIES = ("region", "category_preference")
COLUMNS = (*NUMBERS, *CATEGORIES)
HELD_OUT_SHARE = 0.2


def train(target: Target) -> RegisteredVersion:
    """On what the feature store had of each customer at the time of its label."""
    frame = training_rows(SERVICE, churn_labels(ready_sources()))
    return log_and_register(target, fit(target.next_version, split(target, *by_time(frame))))


def by_time(frame: "pd.DataFrame") -> tuple[Rows, Rows]:
    """Rows to fit on, and the newest fifth, held out."""
    rows = frame.sort_values("event_timestamp", kind="stable", ignore_index=True)
    columns, begin = list(COLUMNS), round(len(rows) * (1 - HELD_OUT_SHARE))
    older, newer = rows[:begin], rows[begin:]
    return Rows(older[columns], older[LABEL]), Rows(newer[columns], newer[LABEL])


def fit(seed: int, rows: Split) -> Trained:
    """The trained model; `seed` makes one version differ from the next."""
    model = pipeline(seed)
    labels = rows.fit.labels.to_numpy(dtype=str)
    model.fit(rows.fit.features, labels, classifier__sample_weight=rows.weights)
    return Trained(
        estimator=model,
        features=rows.fit.features,
        labels=rows.fit.labels,
        metrics=binary_metrics(model, rows.held_out, CHURN),
        params={
            "classifier": type(model[-1]).__name__,
            "n_estimators": model[-1].n_estimators,
            "random_state": seed,
        },
        trusted_types=("sklearn.tree._tree.Tree",),
        held_out=(rows.held_out.features, rows.held_out.labels),
        reference=rows.reference,
    )


def pipeline(seed: int) -> Any:
    """A region that training has not seen counts as none of those it has: no request fails, and
    drift finds it."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder

    columns = ColumnTransformer(
        [
            ("categories", OneHotEncoder(handle_unknown="ignore"), list(CATEGORIES)),
            ("numbers", "passthrough", list(NUMBERS)),
        ]
    )
    classifier = GradientBoostingClassifier(
        n_estimators=80, max_depth=3, subsample=0.8, random_state=seed % 2**32
    )
    return Pipeline([("columns", columns), ("classifier", classifier)])
