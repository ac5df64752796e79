from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from feast import FeatureStore
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_repo.historical import TrainingSetError, training_set
from feature_repo.materialize import materialize
from feature_repo.source_files import SourceError
from feature_repo.views import customer_activity
from tests.feature_repo.histories import NOW, activity, hours_ago, profile, senders, write

VIEW = "customer_activity"
TTL = customer_activity.ttl
HOURS = st.integers(0, 80)
# customer, hours ago, written how many hours later
ROWS = st.lists(st.tuples(st.integers(1, 3), HOURS, st.integers(0, 30)), min_size=1, max_size=25)
ASKED = st.lists(st.tuples(st.integers(1, 4), HOURS), min_size=1, max_size=20)


def frame(asked: list[tuple[int, float]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "customer_id": [customer for customer, _ in asked],
            "event_timestamp": [hours_ago(hours) for _, hours in asked],
            "label": [f"label {place}" for place in range(len(asked))],
        },
        index=[f"row {place}" for place in range(len(asked))],
    )


def as_of(
    rows: list[tuple[int, datetime, int]],
    created: list[datetime],
    customer: int,
    moment: datetime,
    created_by_then: bool,
) -> int | None:
    """What was true, and not too old, at the moment; the plainest way to say it."""
    known = [
        (event, written, value)
        for (owner, event, value), written in zip(rows, created, strict=True)
        if owner == customer
        and event <= moment <= event + TTL
        and (written <= moment or not created_by_then)
    ]
    return max(known)[2] if known else None


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(history=ROWS, asked=ASKED, created_by_then=st.booleans())
def test_no_value_comes_from_after_its_moment_or_from_before_the_ttl(
    home: Path,
    store: FeatureStore,
    history: list[tuple[int, int, int]],
    asked: list[tuple[int, float]],
    created_by_then: bool,
) -> None:
    # A value names its row; of two rows of one moment the later one is to be chosen, so no ties.
    unique = dict.fromkeys(history)
    rows = [(customer, hours_ago(hours), i) for i, (customer, hours, _) in enumerate(unique)]
    created = [hours_ago(hours - late) for _, hours, late in unique]
    write(home, VIEW, activity(rows, created))
    write(home, "customer_profile", profile([1, 2, 3], hours_ago(1)))
    entities = frame(asked)
    found = training_set(store, "customer_churn", entities, created_by_then=created_by_then)
    expected = [
        as_of(rows, created, customer, hours_ago(hours), created_by_then)
        for customer, hours in asked
    ]
    assert [None if pd.isna(item) else item for item in found["num_purchases"]] == expected
    pd.testing.assert_frame_equal(found[entities.columns], entities)


def test_a_value_holds_from_its_moment_to_the_end_of_the_ttl(
    home: Path, store: FeatureStore
) -> None:
    start, second = hours_ago(60), timedelta(microseconds=1)
    write(home, VIEW, activity([(1, start, 7)]))
    write(home, "customer_profile", profile([1], start))
    moments = [start - second, start, start + TTL, start + TTL + second]
    asked = pd.DataFrame({"customer_id": 1, "event_timestamp": moments})
    found = training_set(store, "customer_churn", asked)["num_purchases"]
    assert [None if pd.isna(item) else item for item in found] == [None, 7, 7, None]


def test_offline_and_online_are_equal_at_the_moment_of_materialization(
    home: Path, store: FeatureStore
) -> None:
    write(home, VIEW, activity([(1, hours_ago(5), 1), (1, hours_ago(2), 2), (2, hours_ago(3), 3)]))
    write(home, "customer_profile", profile([1, 2], hours_ago(4)))
    for view in (VIEW, "customer_profile"):
        materialize(store, view, hours_ago(24), NOW)
    offline = training_set(store, "customer_churn", frame([(1, 0), (2, 0)]))
    service = store.get_feature_service("customer_churn")
    online: dict[str, Any] = store.get_online_features(
        features=service, entity_rows=[{"customer_id": 1}, {"customer_id": 2}]
    ).to_dict()
    names = [name for name in offline.columns if name not in ("event_timestamp", "label")]
    assert offline[names].to_dict("list") == {name: online[name] for name in names}
    assert len(names) == 11


def test_dtypes_are_those_of_the_description_and_stay_exact_beside_missing_values(
    home: Path, store: FeatureStore
) -> None:
    large = 2**60 + 1
    write(home, VIEW, activity([(1, hours_ago(2), large)]))
    write(home, "customer_profile", profile([1, 2], hours_ago(2)))
    complete = training_set(store, "customer_churn", frame([(1, 0)])).dtypes.astype(str)
    assert complete[["age", "income", "is_premium", "num_purchases"]].tolist() == [
        "int64",
        "float64",
        "bool",
        "int64",
    ]
    with_gaps = training_set(store, "customer_churn", frame([(1, 0), (2, 0), (9, 0)]))
    assert with_gaps["num_purchases"].tolist() == [large, pd.NA, pd.NA]
    assert with_gaps["is_premium"].tolist() == [True, True, pd.NA]
    assert with_gaps["region"].tolist() == ["north", "north", None]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda asked: asked.drop(columns="customer_id"), "needs customer_id"),
        (lambda asked: asked.assign(age=3), "has age, as customer_churn has"),
        (lambda asked: asked.head(0), "has no rows"),
        (lambda asked: asked.assign(customer_id=None), "rows without customer_id"),
        (
            lambda asked: asked.assign(
                event_timestamp=asked["event_timestamp"].dt.tz_localize(None)
            ),
            "give timestamps with a time zone",
        ),
    ],
)
def test_an_entity_frame_that_cannot_be_joined_is_refused(
    store: FeatureStore, change: Any, said: str
) -> None:
    with pytest.raises(TrainingSetError, match=said):
        training_set(store, "customer_churn", change(frame([(1, 0)])))


def test_a_service_that_is_not_there_and_a_source_without_files_are_named(
    home: Path, store: FeatureStore
) -> None:
    with pytest.raises(TrainingSetError, match="there is: customer_churn, spam_detector"):
        training_set(store, "churn", frame([(1, 0)]))
    with pytest.raises(SourceError, match="source customer_profile of customer_profile has no"):
        training_set(store, "customer_churn", frame([(1, 0)]))
    write(home, "sender_activity", senders(["a"], hours_ago(1)))
    asked = pd.DataFrame({"sender": ["a"], "event_timestamp": [NOW]})
    with pytest.raises(TrainingSetError, match="spam_detector needs email_content"):
        training_set(store, "spam_detector", asked)
