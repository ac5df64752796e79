"""What was served of features, read from the log and held against the offline store."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from deploy.home import Home
from feature_repo.description import FeatureServiceDescription
from orchestration.features.errors import FeatureError
from orchestration.features.store import described_service, opened_store, read_description
from orchestration.monitoring.skew import Asked, Audit, Served, Values, audit
from serving_config.schema import Configuration, Model

MAX_ROWS = 5000
_PREFIX = "feature_"


@dataclass(frozen=True)
class Window:
    """The answers from `since` to before `until`."""

    environment: str
    since: datetime
    until: datetime


def feature_audit(home: Home, configuration: Configuration, model: Model, window: Window) -> Audit:
    """Compare the window's answers to requests with entities, at most `MAX_ROWS` of them, drawn
    with a seed. FeatureError where the definitions lack the model's feature service."""
    if model.feature_service is None:
        raise FeatureError(f"models/{model.name}.yaml has no feature_service")
    description = read_description(home)
    service = described_service(description, model.feature_service)
    on_demand = {view.name for view in description.views if view.kind == "on_demand"}
    rows, narrow = served_rows(home, configuration, model, window, service)
    if not rows:
        return audit([], service, on_demand, lambda _: [])
    with opened_store(home, configuration.features) as store:
        return audit(rows, service, on_demand, offline_values(store, service, narrow))


def served_rows(
    home: Home,
    configuration: Configuration,
    model: Model,
    window: Window,
    service: FeatureServiceDescription,
) -> tuple[list[Served], set[str]]:
    """The rows that were looked up by entities, and the inputs that are float32. What is not
    logged, or only as a hash, is left out: a feature alone, every row where it is an entity."""
    from deploy.predictions.reader import read_predictions

    hidden = {*model.prediction_log.never, *model.prediction_log.hashed}
    if hidden & {key.name for key in service.entities}:
        return [], set()
    table = read_predictions(
        home, configuration, model.name, window.environment, window.since, window.until, status=200
    )
    table = table.filter(table["entities"].is_valid())
    chosen = sample(table.num_rows, MAX_ROWS, str(window.until))
    names = [
        name
        for name in table.column_names
        if name.startswith(_PREFIX) and name.removeprefix(_PREFIX) not in hidden
    ]
    records = table.take(chosen).select(
        ["request_id", "row", "time", "entities", "lookups", *names]
    )
    narrow = {n.removeprefix(_PREFIX) for n in names if table.schema.field(n).type == "float"}
    return [_served(record, names) for record in records.to_pylist()], narrow


def sample(rows: int, limit: int, seed: str) -> list[int]:
    """The indices of at most `limit` rows, in order; the same for the same seed."""
    if rows <= limit:
        return list(range(rows))
    return sorted(random.Random(seed).sample(range(rows), limit))  # noqa: S311 - a sample


def _served(record: dict[str, Any], names: Sequence[str]) -> Served:
    return Served(
        request_id=record["request_id"],
        row=record["row"],
        time=record["time"],
        entities=json.loads(record["entities"]),
        lookups=json.loads(record["lookups"] or "{}"),
        features={name.removeprefix(_PREFIX): record[name] for name in names},
    )


def offline_values(
    store: Any, service: FeatureServiceDescription, narrow: set[str]
) -> Callable[[Sequence[Asked]], list[Values]]:
    """Feast's point-in-time join, as `skew.audit` asks for it.

    narrow: the features that a model takes as float32, as which they were logged.
    """

    def ask(asked: Sequence[Asked]) -> list[Values]:
        import pandas as pd

        from feature_repo.historical import EVENT_TIMESTAMP, TrainingSetError, training_set
        from feature_repo.source_files import SourceError

        frame = pd.DataFrame(
            {key.name: [item.entities.get(key.name) for item in asked] for key in service.entities}
        )
        for field in service.request:
            unset = "" if field.dtype == "string" else 0
            values = [item.request.get(field.name) for item in asked]
            frame[field.name] = [unset if value is None else value for value in values]
        moments = [item.at for item in asked]
        frame[EVENT_TIMESTAMP] = pd.to_datetime(moments, utc=True).astype("datetime64[us, UTC]")
        try:
            # The row of that very moment was written after it, and before it was served.
            found = training_set(store, service.name, frame, created_by_then=False)
        except (TrainingSetError, SourceError) as error:
            raise FeatureError(str(error)) from error
        names = [item.name for item in service.features]
        for name in narrow & set(names):
            found[name] = found[name].astype("float32")
        columns = {
            name: [None if pd.isna(value) else value for value in found[name].tolist()]
            for name in names
        }
        return [{name: values[i] for name, values in columns.items()} for i in range(len(asked))]

    return ask
