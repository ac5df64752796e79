"""Training sets: features as they were at the moments of the labels (point-in-time joins)."""

import atexit
import sys
import warnings
from copy import copy
from datetime import timedelta
from typing import Any

import pandas as pd
import pyarrow as pa
from feast import FeatureService, FeatureStore, FeatureView
from feast.errors import FeatureServiceNotFoundException

from feature_repo.describe import describe
from feature_repo.description import Dtype, FeatureServiceDescription
from feature_repo.source_files import source_files

EVENT_TIMESTAMP = "event_timestamp"
_ROW = "__row__"
_ARROW: dict[Dtype, pa.DataType] = {
    "float32": pa.float32(),
    "float64": pa.float64(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "bool": pa.bool_(),
    "string": pa.string(),
}
# Those of pandas that keep a missing value and do not turn the others into floats or objects.
_NULLABLE = {"int32": "Int32", "int64": "Int64", "bool": "boolean"}


class TrainingSetError(ValueError):
    """A training set that cannot be made; one sentence."""


def training_set(
    store: FeatureStore,
    service: str,
    entity_frame: pd.DataFrame,
    *,
    created_by_then: bool = True,
    with_stale: bool = False,
) -> pd.DataFrame:
    """The entity frame's columns, rows, order and index, and the features of the service.

    entity_frame: the service's join keys, `event_timestamp` with a time zone, and the fields that
    its on-demand views read; other columns, such as the label, stay as they are.

    A feature is the one of the newest row with event_timestamp <= the entity's, if that is not
    older than the view's TTL; else it is missing: NaN or None, and integers and booleans get
    pandas' nullable dtypes then. created_by_then: leave out rows that were written after the
    entity's moment, which nobody could have served then (corrections, late data). with_stale: as if
    no view had a TTL. TrainingSetError, SourceError.
    """
    if with_stale:
        store = _without_ttl(store)
    found = _service(store, service)
    described = _described(store, found)
    _check(described, entity_frame)
    for projection in found.feature_view_projections:
        if projection.batch_source is not None:
            source_files(store.get_feature_view(projection.name))
    asked = [key.name for key in (*described.entities, *described.request)]
    asked_frame = entity_frame[[*dict.fromkeys(asked), EVENT_TIMESTAMP]].assign(
        **{_ROW: range(len(entity_frame))}
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fetch_arrow_table", DeprecationWarning)
        job = store.get_historical_features(
            entity_df=asked_frame, features=found, filter_by_created_timestamp=created_by_then
        )
        joined = job.to_arrow().sort_by(_ROW)
    features = {
        feature.name: _series(joined[feature.name], feature.dtype) for feature in described.features
    }
    result = pd.DataFrame(features).set_axis(entity_frame.index)
    return pd.concat([entity_frame, result], axis="columns")


@atexit.register
def _let_go() -> None:
    """Of the connection that Feast's joins left with ibis: DuckDB's binding prints a page of leaks
    where it outlives the interpreter, as it does once torch was imported."""
    if ibis := sys.modules.get("ibis"):
        ibis.options.default_backend = None


class _AgelessRegistry:
    """A registry whose feature views have no TTL."""

    def __init__(self, registry: Any) -> None:
        self._registry = registry

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry, name)

    def get_any_feature_view(self, *arguments: Any, **options: Any) -> Any:
        """As `BaseRegistry` has it."""
        view = self._registry.get_any_feature_view(*arguments, **options)
        if isinstance(view, FeatureView):
            view = copy(view)
            view.ttl = timedelta(0)  # Feast's way to say none
        return view


def _without_ttl(store: FeatureStore) -> FeatureStore:
    same = copy(store)
    same._registry = _AgelessRegistry(store.registry)
    return same


def _service(store: FeatureStore, service: str) -> FeatureService:
    try:
        return store.get_feature_service(service)
    except FeatureServiceNotFoundException:
        known = ", ".join(sorted(item.name for item in store.list_feature_services())) or "none"
        raise TrainingSetError(
            f"there is no feature service {service}; there is: {known}"
        ) from None


def _described(store: FeatureStore, service: FeatureService) -> FeatureServiceDescription:
    views = [*store.list_feature_views(), *store.list_on_demand_feature_views()]
    return describe(store.project, [*views, service], "").service(service.name)


def _check(service: FeatureServiceDescription, frame: pd.DataFrame) -> None:
    needed = [field.name for field in (*service.entities, *service.request)] + [EVENT_TIMESTAMP]
    if missing := sorted(set(needed) - set(frame.columns)):
        raise TrainingSetError(f"{service.name} needs {', '.join(missing)} in the entity frame")
    provided = {feature.name for feature in service.features}
    if twice := sorted(provided & set(frame.columns)):
        raise TrainingSetError(f"the entity frame has {', '.join(twice)}, as {service.name} has")
    if frame.empty:
        raise TrainingSetError(f"the entity frame for {service.name} has no rows")
    if not isinstance(frame[EVENT_TIMESTAMP].dtype, pd.DatetimeTZDtype):
        raise TrainingSetError(
            f"{EVENT_TIMESTAMP} of the entity frame is {frame[EVENT_TIMESTAMP].dtype}: "
            "give timestamps with a time zone"
        )
    keys = [field.name for field in service.entities] + [EVENT_TIMESTAMP]
    if unset := sorted(name for name in keys if frame[name].isna().any()):
        raise TrainingSetError(f"the entity frame has rows without {', '.join(unset)}")


def _series(column: pa.ChunkedArray, dtype: Dtype) -> pd.Series:
    column = column.cast(_ARROW[dtype])
    if column.null_count and dtype in _NULLABLE:
        return pd.Series(column.to_pylist(), dtype=_NULLABLE[dtype])
    series: pd.Series = column.to_pandas()
    return series
