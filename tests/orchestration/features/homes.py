"""Homes with a feature store's description, and nothing of Feast."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec

from deploy.home import Home
from feature_repo.description import (
    Description,
    Feature,
    FeatureServiceDescription,
    Field,
    View,
)

AGE = Field("age", "int64")
NOW = datetime(2025, 11, 20, 10, 20, tzinfo=UTC)
PROFILE = View("profile", "feature_view", (Field("customer_id", "int64"),), (AGE,), 86400.0)
SERVICE = FeatureServiceDescription(
    "churn", (Field("customer_id", "int64"),), (Feature("age", "int64", "profile"),)
)


def home_with(folder: Path, *views: View) -> Home:
    home = Home(folder).create()
    describe(home, *(views or (PROFILE,)))
    return home


def describe(home: Home, *views: View) -> None:
    description = Description("test", "0" * 64, views, (SERVICE,))
    (home.features / "description.json").write_bytes(msgspec.json.encode(description))


def hour(number: int, day: int = 20) -> datetime:
    return datetime(2025, 11, day, number, tzinfo=UTC)
