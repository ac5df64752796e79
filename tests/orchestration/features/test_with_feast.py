"""The feature repository, its example sources and its SQLite store, for real."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from deploy.home import Home
from orchestration.examples.feature_data import write_sources
from orchestration.features.errors import FeatureError
from orchestration.features.materialization import into_online_store, materialize_view
from orchestration.features.replay import Window, feature_audit
from orchestration.features.store import described_view, opened_store, read_description
from orchestration.features.watermarks import read_watermark
from orchestration.features.windows import last_window
from orchestration.monitoring.skew import Audit
from serving_config.features import Features
from serving_config.load import load
from serving_config.predictions import LoggedColumns
from serving_config.schema import Configuration, Model
from tests.deploy.predictions.segments import block, header, segment

# Feast's own, of code that it calls while it is imported and used.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]
SETTINGS = Features()
HOUR = timedelta(hours=1)
END = last_window("hour", datetime.now(UTC))[1]
CHURN = Model(name="customer-churn", feature_service="customer_churn")
SPAM = Model(name="spam-detector", feature_service="spam_detector")
CUSTOMERS, TEXT = [1, 2, 3, 17], "WIN 100 euros now! https://example.com"


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from feature_repo.apply import apply

    home = Home(tmp_path_factory.mktemp("applied")).create()
    write_sources(home.features / "sources", until=END, days=3)
    apply(home.features)
    return home.root


@pytest.fixture
def home(applied: Path, tmp_path: Path) -> Home:
    """A copy, whose sources lie below it, too."""
    from feature_repo.apply import apply

    shutil.copytree(applied, tmp_path / "h")
    made = Home(tmp_path / "h")
    apply(made.features)
    return made


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    return load(variables={})


def materialize(home: Home, view: str, start: datetime = END - HOUR, end: datetime = END) -> Any:
    return materialize_view(home, SETTINGS, view, start, end, into_online_store(home, SETTINGS))


def online(home: Home, service: str, rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    with opened_store(home, SETTINGS) as store:
        found = store.get_online_features(store.get_feature_service(service), rows)
        return dict(found.to_dict())


def until(home: Home, view: str) -> datetime | None:
    described = described_view(read_description(home), view)
    mark = read_watermark(home, described, SETTINGS.store)
    return mark.until if mark else None


def test_the_first_run_brings_all_there_is_online_and_an_older_window_takes_nothing_back(
    home: Home,
) -> None:
    done = materialize(home, "customer_activity")
    assert done.counts["rows"] > 0
    rows = [{"customer_id": number} for number in CUSTOMERS]
    first = online(home, "customer_churn", rows)["num_purchases"]
    assert None not in first
    assert until(home, "customer_activity") == END
    materialize(home, "customer_activity", END - 48 * HOUR, END - 24 * HOUR)
    assert online(home, "customer_churn", rows)["num_purchases"] == first
    assert until(home, "customer_activity") == END


def test_a_source_that_is_gone_fails_in_a_sentence_and_is_caught_up_later(home: Home) -> None:
    materialize(home, "sender_activity", END - 3 * HOUR, END - 2 * HOUR)
    source = home.features / "sources" / "sender_activity"
    source.rename(source.with_name("away"))
    with pytest.raises(FeatureError, match="sender_activity"):
        materialize(home, "sender_activity", END - 2 * HOUR, END - HOUR)
    assert until(home, "sender_activity") == END - 2 * HOUR
    source.with_name("away").rename(source)
    assert materialize(home, "sender_activity").span.start == END - 2 * HOUR


def test_a_view_that_was_gone_for_a_while_is_materialized_from_the_beginning(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from feature_repo import definitions
    from feature_repo.apply import apply

    materialize(home, "sender_activity")
    materialize(home, "customer_activity")
    with monkeypatch.context() as without:
        for name in ("sender_activity", "spam_detector"):
            without.delattr(definitions, name)
        apply(home.features)
    apply(home.features)
    assert until(home, "sender_activity") is None
    assert until(home, "customer_activity") == END


Look = Callable[[str, datetime], dict[str, str]]


def look(home: Home, view: str, key: str, value: Any) -> dict[str, str]:
    """What the transformer would say of the entity: the newest row that is materialized."""
    files = sorted((home.features / "sources" / view).glob("*.parquet"))
    rows = pd.concat([pd.read_parquet(file) for file in files])
    rows = rows[(rows[key] == value) & (rows["event_timestamp"] < END)]
    newest = rows["event_timestamp"].max()
    return {"as_of": newest.isoformat(), "status": "present"}


def serve_customers(home: Home, statuses: dict[int, str] | None = None) -> None:
    """Log what the online store has of some customers, as a model server does."""
    views = ("customer_profile", "customer_activity")
    for view in views:
        materialize(home, view)
    found = online(home, "customer_churn", [{"customer_id": number} for number in CUSTOMERS])
    names = [name for name in found if name != "customer_id"]
    dtypes = {"region": "string", "category_preference": "string", "is_premium": "bool"}
    dtypes |= {"income": "float64", "avg_transaction": "float64"}
    lookups = []
    for number in CUSTOMERS:
        looks = {view: look(home, view, "customer_id", number) for view in views}
        if status := (statuses or {}).get(number):
            looks["customer_activity"]["status"] = status
        lookups.append(json.dumps(looks))
    log(
        home,
        CHURN.name,
        {name: found[name] for name in names},
        [dtypes.get(name, "int64") for name in names],
        [json.dumps({"customer_id": number}) for number in CUSTOMERS],
        lookups,
    )


def log(
    home: Home,
    model: str,
    columns: dict[str, list[Any]],
    dtypes: list[str],
    entities: list[str],
    lookups: list[str],
) -> None:
    of = header(model=model, columns=tuple(columns), dtypes=tuple(dtypes))
    ids = [f"r{number}" for number in range(len(entities))]
    values = list(columns.values())
    at = END + timedelta(seconds=1)
    rows = block(ids, at, features=values, entities=entities, lookups=lookups)
    segment(home, "a", rows, of=of)


def audited(home: Home, configuration: Configuration, model: Model) -> Audit:
    window = Window("production", END - HOUR, END + HOUR)
    return feature_audit(home, configuration, model, window)


def change(home: Home, view: str, customer: int, **values: Any) -> None:
    """Write history anew: what the source says of every moment of a customer."""
    for file in (home.features / "sources" / view).glob("*.parquet"):
        rows = pd.read_parquet(file)
        for name, value in values.items():
            rows.loc[rows["customer_id"] == customer, name] = value
        rows.to_parquet(file, index=False)


def test_what_was_served_is_what_the_offline_store_has_and_a_planted_difference_is_found(
    home: Home, configuration: Configuration
) -> None:
    serve_customers(home)
    found = audited(home, configuration, CHURN)
    assert (found.rows, found.values) == (4, 4 * 10)
    assert (found.differences, found.apart, found.hidden) == ((), {}, ())
    change(home, "customer_profile", 17, income=1.25)
    (planted,) = audited(home, configuration, CHURN).differences
    assert (planted.view, planted.feature, planted.offline) == ("customer_profile", "income", 1.25)
    assert planted.served.entities == {"customer_id": 17}
    assert planted.online != 1.25


def test_a_value_that_is_newer_now_is_no_difference(
    home: Home, configuration: Configuration
) -> None:
    serve_customers(home)
    write_sources(home.features / "sources", until=END + 30 * HOUR, days=3)
    assert audited(home, configuration, CHURN).differences == ()


def test_what_was_not_served_from_the_store_is_counted_apart(
    home: Home, configuration: Configuration
) -> None:
    serve_customers(home, {2: "stale", 3: "unknown"})
    change(home, "customer_activity", 2, num_returns=99)
    found = audited(home, configuration, CHURN)
    assert found.differences == ()
    assert found.apart == {"customer_activity: stale": 1, "customer_activity: unknown": 1}
    assert found.values == 4 * 7 + 2 * 3


def test_what_is_not_logged_is_not_compared(home: Home, configuration: Configuration) -> None:
    serve_customers(home)
    change(home, "customer_profile", 17, income=1.25)
    never = CHURN.model_copy(update={"prediction_log": LoggedColumns(never=("income",))})
    found = audited(home, configuration, never)
    assert (found.differences, found.hidden) == ((), ("income",))
    hashed = CHURN.model_copy(update={"prediction_log": LoggedColumns(hashed=("customer_id",))})
    assert audited(home, configuration, hashed).rows == 0


def serve_email(home: Home, **changed: Any) -> None:
    materialize(home, "sender_activity")
    files = sorted((home.features / "sources" / "sender_activity").glob("*.parquet"))
    sender = pd.read_parquet(files[-1])["sender"].iloc[0]
    found = online(home, "spam_detector", [{"sender": sender, "email_content": TEXT}])
    names = [name for name in found if name not in ("sender", "email_content")]
    columns = {name: found[name] for name in names} | {"email_content": [TEXT]}
    columns |= {name: [value] for name, value in changed.items()}
    dtypes = ["float64" if name.endswith("_share") else "int64" for name in names] + ["string"]
    looks = {"sender_activity": look(home, "sender_activity", "sender", sender)}
    log(home, SPAM.name, columns, dtypes, [json.dumps({"sender": sender})], [json.dumps(looks)])


def test_on_demand_features_are_computed_anew_from_the_logged_text(
    home: Home, configuration: Configuration
) -> None:
    serve_email(home)
    found = audited(home, configuration, SPAM)
    assert (found.rows, found.differences, found.hidden) == (1, (), ())
    assert found.values >= 6
    never = SPAM.model_copy(update={"prediction_log": LoggedColumns(never=("email_content",))})
    assert "word_count" in audited(home, configuration, never).hidden


def test_a_statistic_that_was_served_otherwise_is_found(
    home: Home, configuration: Configuration
) -> None:
    serve_email(home, word_count=7)
    (planted,) = audited(home, configuration, SPAM).differences
    assert (planted.feature, planted.online, planted.offline) == ("word_count", 7, 5)
