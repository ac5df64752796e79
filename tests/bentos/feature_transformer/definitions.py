"""A small Feast project: views with and without a TTL, a key of two parts, on-demand views."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from feast import (
    Entity,
    FeatureService,
    FeatureStore,
    FeatureView,
    Field,
    FileSource,
    OnDemandFeatureView,
    RepoConfig,
    RequestSource,
    ValueType,
)
from feast.types import Bool, Float64, Int64, String

from feature_repo.describe import describe
from feature_repo.description import Description
from feature_repo.store import without_feast_notices

customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.INT64)
shop = Entity(name="shop", join_keys=["shop"], value_type=ValueType.STRING)
# Never read: what the tests serve, they write to the online store.
nothing = FileSource(name="nothing", path="nothing.parquet", timestamp_field="event_timestamp")

profile = FeatureView(
    name="profile",
    entities=[customer],
    ttl=timedelta(days=2),
    schema=[
        Field(name="customer_id", dtype=Int64),
        Field(name="age", dtype=Int64),
        Field(name="income", dtype=Float64),
        Field(name="is_premium", dtype=Bool),
        Field(name="region", dtype=String),
    ],
    source=nothing,
)
activity = FeatureView(
    name="activity",
    entities=[customer],
    ttl=timedelta(0),  # forever
    schema=[Field(name="customer_id", dtype=Int64), Field(name="purchases", dtype=Int64)],
    source=nothing,
)
visits = FeatureView(
    name="visits",
    entities=[customer, shop],
    ttl=timedelta(days=2),
    schema=[
        Field(name="customer_id", dtype=Int64),
        Field(name="shop", dtype=String),
        Field(name="visits", dtype=Int64),
    ],
    source=nothing,
)
message = RequestSource(name="message", schema=[Field(name="text", dtype=String)])


def lengths(inputs: dict[str, Any]) -> dict[str, Any]:
    if "fail" in inputs["text"]:
        raise ValueError("as asked")
    return {"length": [len(text) for text in inputs["text"]]}


def words(inputs: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({"words": inputs["text"].str.split().str.len()})


length = OnDemandFeatureView(
    name="length",
    sources=[message],
    schema=[Field(name="length", dtype=Int64)],
    udf=lengths,
    udf_string="lengths",
    mode="python",
)
word_count = OnDemandFeatureView(
    name="word_count",
    sources=[message],
    schema=[Field(name="words", dtype=Int64)],
    udf=words,
    udf_string="words",
    mode="pandas",
)
OBJECTS = [
    *(customer, shop, profile, activity, visits, length, word_count),
    FeatureService(name="churn", features=[profile, activity]),
    FeatureService(name="loyalty", features=[profile[["age"]], visits]),
    FeatureService(name="mail", features=[activity, length, word_count]),
    FeatureService(name="text", features=[length]),
]


def description() -> Description:
    return describe("tests", OBJECTS, "0" * 64)


def open_store(folder: Path, online: dict[str, Any]) -> FeatureStore:
    """The registry in `folder` must be applied; see `apply`."""
    return FeatureStore(
        config=RepoConfig(
            project="tests",
            provider="local",
            registry={"path": str(folder / "registry.db")},
            offline_store={"type": "duckdb"},
            online_store=online,
            entity_key_serialization_version=3,
        )
    )


def apply(folder: Path, online: dict[str, Any]) -> FeatureStore:
    store = open_store(folder, online)
    with without_feast_notices():
        store.apply(OBJECTS)
    return store
