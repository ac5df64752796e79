"""Training sets of the examples: for each row, what the feature store knew at the row's time."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from feature_repo.home import features_home
from orchestration.examples.feature_data import newest_row, write_sources
from orchestration.training import TrainingError
from serving_config.load import FOLDER, load

if TYPE_CHECKING:
    import pandas as pd


def ready_sources() -> datetime:
    """The time up to which the example sources reach; they are made where there are none."""
    folder = features_home() / "sources"
    if newest_row(folder, "customer_activity") is None:
        write_sources(folder, datetime.now(UTC))
    newest = newest_row(folder, "customer_activity")
    assert newest is not None  # noqa: S101  just written
    return newest


def training_rows(service: str, entity_frame: "pd.DataFrame") -> "pd.DataFrame":
    """The entity frame with the service's features beside it, point in time.

    TrainingError where the definitions were not applied, the store cannot be opened, or a row has
    no value of some feature.
    """
    from feature_repo.historical import TrainingSetError, training_set
    from feature_repo.source_files import SourceError
    from feature_repo.store import StoreError, open_store

    settings = load(Path(os.environ.get("SLIPWAY_CONFIG") or FOLDER)).features
    try:
        rows = training_set(open_store(store=settings.store), service, entity_frame)
    except (TrainingSetError, SourceError, StoreError) as error:
        raise TrainingError(
            f"{error} (`slipway features apply` brings the store to its definitions)"
        ) from error
    incomplete = rows.isna().sum()
    if incomplete.any():
        raise TrainingError(
            f"{service}: {incomplete.max()} of {len(rows)} rows have no {incomplete.idxmax()!r}: "
            f"complete its source in {features_home() / 'sources'}"
        )
    return rows
