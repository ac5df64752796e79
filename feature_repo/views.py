"""Feature views: features of one entity from one source, and how long a value holds (its TTL)."""

from datetime import timedelta

from feast import FeatureView, Field
from feast.types import Bool, Float64, Int64, String

from feature_repo.entities import customer, sender
from feature_repo.sources import (
    customer_activity_push,
    customer_profile_source,
    sender_activity_source,
)

customer_profile = FeatureView(
    name="customer_profile",
    entities=[customer],
    ttl=timedelta(days=3),
    schema=[
        Field(name="customer_id", dtype=Int64),
        Field(name="age", dtype=Int64, description="Years."),
        Field(name="income", dtype=Float64, description="A year's, before tax."),
        Field(name="credit_score", dtype=Int64, description="300 to 850."),
        Field(name="account_age_days", dtype=Int64),
        Field(name="is_premium", dtype=Bool),
        Field(name="region", dtype=String),
        Field(name="category_preference", dtype=String),
    ],
    source=customer_profile_source,
    description="Who a customer is.",
)

customer_activity = FeatureView(
    name="customer_activity",
    entities=[customer],
    ttl=timedelta(days=2),
    schema=[
        Field(name="customer_id", dtype=Int64),
        Field(name="num_purchases", dtype=Int64, description="In the last 30 days."),
        Field(name="avg_transaction", dtype=Float64, description="Of the last 30 days."),
        Field(name="num_returns", dtype=Int64, description="In the last 30 days."),
    ],
    source=customer_activity_push,
    description="What a customer did of late.",
)

sender_activity = FeatureView(
    name="sender_activity",
    entities=[sender],
    ttl=timedelta(days=2),
    schema=[
        Field(name="sender", dtype=String),
        Field(name="sender_messages_7d", dtype=Int64, description="Sent in the last 7 days."),
        Field(name="sender_reports_7d", dtype=Int64, description="Reported as spam, 7 days."),
        Field(name="sender_account_age_days", dtype=Int64),
    ],
    source=sender_activity_source,
    description="How a sender behaved of late.",
)
