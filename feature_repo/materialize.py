"""One feature view's values of one time window, from its source into the online store."""

import gc
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from feast import FeatureStore, FeatureView
from feast.errors import FeastError, FeatureViewNotFoundException

from feature_repo.source_files import SourceError, source_files

_MICROSECOND = timedelta(microseconds=1)


class MaterializationError(RuntimeError):
    """A window that was not materialized; one sentence."""


@dataclass(frozen=True)
class Materialized:
    """What a window's source had, all of which is in the online store now.

    rows: in the window; entities: different ones; duplicates: rows that another one of the same
    entity and event timestamp stands for (the later `created_timestamp` counts); future: rows of
    the whole source after the moment of the call, which were left out; newest: the newest event
    timestamp in the window, None for an empty one.
    """

    view: str
    start: datetime
    end: datetime
    rows: int
    entities: int
    duplicates: int
    future: int
    newest: datetime | None

    def __str__(self) -> str:
        window = f"{self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M} UTC"
        if self.rows:
            said = f"{self.rows} rows, {self.entities} entities, newest {self.newest:%F %T}"
        else:
            said = "no rows"
        extra = f", {self.duplicates} duplicates" if self.duplicates else ""
        extra += f", {self.future} rows from the future left out" if self.future else ""
        return f"{self.view}, {window}: {said}{extra}"


def materialize(
    store: FeatureStore, view: str, start: datetime, end: datetime, now: datetime | None = None
) -> Materialized:
    """Bring each entity's newest row with start <= event_timestamp < end to the online store.

    Rows from after now are left out and counted: materialize their window again when their time
    has come. An empty window is no error. Doing a window again changes nothing, and neither does
    an older window after a newer one. MaterializationError, SourceError.
    """
    start, end = _utc("start", start), _utc("end", end)
    now = _utc("now", now or datetime.now(UTC))
    if start >= end:
        raise MaterializationError(f"{view}: the window ends at {end}, before it starts at {start}")
    definition = _feature_view(store, view)
    files = source_files(definition)
    # Feast's window includes its end.
    last = min(end - _MICROSECOND, now)
    counted = _count(definition, files, start, last, now)
    done = Materialized(view, start, end, **counted)
    if not done.rows:
        return done
    try:
        with _quiet(), _collector_paused():
            store.materialize(start, last, feature_views=[view])
    except Exception as error:
        said = (str(error).splitlines() or [""])[0]
        raise MaterializationError(f"{view}: {type(error).__name__}: {said}") from error
    return done


def _utc(name: str, moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise MaterializationError(f"{name} {moment.isoformat()} has no time zone")
    return moment.astimezone(UTC)


def _feature_view(store: FeatureStore, view: str) -> FeatureView:
    try:
        return store.get_feature_view(view)
    except FeatureViewNotFoundException:
        known = ", ".join(sorted(item.name for item in store.list_feature_views())) or "none"
        raise MaterializationError(f"there is no feature view {view}; there is: {known}") from None
    except FeastError as error:
        raise MaterializationError(f"{view}: {str(error).splitlines()[0]}") from error


def _count(
    view: FeatureView, files: list[Path], start: datetime, last: datetime, now: datetime
) -> dict[str, Any]:
    import duckdb

    event = _quoted(view.batch_source.timestamp_field)
    keys = [_quoted(field.name) for field in view.entity_columns]
    row, entity = ", ".join([*keys, event]), ", ".join(keys)
    unset = " OR ".join(f"{name} IS NULL" for name in (*keys, event))
    query = f"""
    SELECT count(*) FILTER (here) AS rows, count(DISTINCT row({entity})) FILTER (here) AS entities,
        count(*) FILTER (here) - count(DISTINCT row({row})) FILTER (here) AS duplicates,
        count(*) FILTER ({event} > $now) AS future,
        epoch_us(max({event}) FILTER (here)) AS newest, count(*) FILTER ({unset}) AS unset
    FROM (SELECT *, {event} BETWEEN $start AND $last AS here FROM read_parquet($files))
    """  # noqa: S608 - names are quoted, values are parameters
    values = {"start": start, "last": last, "now": now, "files": [str(file) for file in files]}
    try:
        with duckdb.connect() as connection:
            found = connection.execute(query, values)
            names = [column[0] for column in found.description]
            counted = dict(zip(names, found.fetchone(), strict=True))
    except duckdb.Error as error:
        said = str(error).splitlines()[0]
        raise SourceError(f"source {view.batch_source.name} cannot be read: {said}") from error
    if unset := counted.pop("unset"):
        needed = " or ".join((*keys, event))
        raise SourceError(f"source {view.batch_source.name} has {unset} rows without {needed}")
    if counted["newest"] is not None:
        counted["newest"] = datetime.fromtimestamp(0, UTC) + counted["newest"] * _MICROSECOND
    return counted


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def _quiet() -> Iterator[None]:
    """Feast prints its progress in colours, and its ibis calls what DuckDB deprecates."""
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fetch_arrow_table", DeprecationWarning)
        yield


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Feast makes millions of objects without cycles; looking for some takes a quarter of the
    time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
