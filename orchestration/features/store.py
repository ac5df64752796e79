"""The feature store of a home: its description, and Feast's own store."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec

from deploy.home import Home
from feature_repo.description import Description, FeatureServiceDescription, View
from orchestration.features.errors import FeatureError
from serving_config.features import Features

DESCRIPTION = "description.json"


def read_description(home: Home) -> Description:
    """The feature store's description; FeatureError where nothing was applied yet."""
    path = home.features / DESCRIPTION
    try:
        return msgspec.json.decode(path.read_bytes(), type=Description)
    except FileNotFoundError as error:
        raise FeatureError(
            f"the feature definitions were not applied yet ({path} is missing): "
            "`slipway features apply`"
        ) from error
    except (OSError, msgspec.DecodeError) as error:
        raise FeatureError(f"{path}: {error}; `slipway features apply`") from error


def applied_at(home: Home) -> datetime:
    """When the definitions were applied; FeatureError where they were not yet."""
    try:
        written = (home.features / DESCRIPTION).stat().st_mtime
    except OSError as error:
        raise FeatureError(f"{home.features / DESCRIPTION}: {error.strerror}") from error
    return datetime.fromtimestamp(written, UTC)


def described_view(description: Description, name: str) -> View:
    """One feature view; FeatureError lists those there are."""
    known = {item.name: item for item in description.views if item.kind == "feature_view"}
    if name not in known:
        raise FeatureError(
            f"feature_repo/ has no feature view {name!r}, which serving_config/features.yaml "
            f"names; there is: {', '.join(sorted(known)) or 'none'}"
        )
    return known[name]


def described_service(description: Description, name: str) -> FeatureServiceDescription:
    """One feature service; FeatureError lists those there are."""
    try:
        return description.service(name)
    except KeyError as error:
        raise FeatureError(str(error.args[0])) from error


@contextmanager
def opened_store(home: Home, settings: Features) -> Iterator[Any]:
    """Feast's store of this home; what it refuses is a FeatureError."""
    from feature_repo.store import StoreError, close_store, open_store

    try:
        store = open_store(home.features, settings.store)
    except StoreError as error:
        raise FeatureError(str(error)) from error
    try:
        yield store
    finally:
        close_store(store)
