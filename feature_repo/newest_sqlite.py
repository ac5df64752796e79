"""Feast's SQLite online store, made fit for a push and a materialization of the same feature view.

Feast 0.67's own lets the last writer win, so materializing yesterday hides today's push; keeps
times in whole seconds of the machine's time zone, which summer time makes ambiguous; and writes
row by row. Here the newest event timestamp wins (as on Feast's Redis), in microseconds of UTC, by
one transaction for each batch, while readers go on (write-ahead log).
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from feast import FeatureView
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import compute_table_id
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig
from sqlalchemy.dialects import plugins

from feature_repo.home import features_home

Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]

# So that `feature_store.yaml` can name a registry below SLIPWAY_FEATURES_HOME: Feast imports this
# module when it reads that file, before it opens the registry.
plugins.register("features_home", "feature_repo.home_plugin", "FeaturesHomePlugin")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_BUSY_SECONDS = 30

_UPSERT = """
INSERT INTO "{table}" (entity_key, feature_name, value, event_ts, created_ts)
VALUES (?, ?, ?, ?, ?)
ON CONFLICT (entity_key, feature_name) DO UPDATE
SET value = excluded.value, event_ts = excluded.event_ts, created_ts = excluded.created_ts
WHERE excluded.event_ts >= "{table}".event_ts
"""


class NewestSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):  # type: ignore[misc]
    """path: a relative one is below `SLIPWAY_FEATURES_HOME`."""

    type: str = "feature_repo.newest_sqlite.NewestSqliteOnlineStore"
    path: str = "online.db"


class NewestSqliteOnlineStore(SqliteOnlineStore):  # type: ignore[misc]
    """What `online_store.type` names in `feature_store.yaml`."""

    _conn: sqlite3.Connection | None = None

    def __init__(self) -> None:
        super().__init__()
        self._opening, self._writing = threading.Lock(), threading.Lock()

    @staticmethod
    def _get_db_path(config: RepoConfig) -> str:
        path = features_home() / config.online_store.path
        path.parent.mkdir(parents=True, exist_ok=True)
        return str(path)

    def _get_conn(self, config: RepoConfig) -> sqlite3.Connection:
        with self._opening:
            if self._conn is None:
                connection = sqlite3.connect(
                    self._get_db_path(config),
                    timeout=_BUSY_SECONDS,
                    isolation_level=None,
                    check_same_thread=False,
                )
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                self._conn = connection
            return self._conn

    def plan(self, config: RepoConfig, desired_registry_proto: Any) -> list[Any]:
        """Nothing: Feast keeps track of the tables of its own SQLite store alone, and would say
        for ever that these are to be created."""
        return []

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: Sequence[Row],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """All rows or none; a row older than what is there changes nothing."""
        statement = _UPSERT.format(table=_table(config, table))
        rows = _rows(data, config.entity_key_serialization_version)
        with self._writing, _transaction(self._get_conn(config)) as connection:
            connection.executemany(statement, rows)
        if progress:
            progress(len(data))

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: Sequence[EntityKey],
        requested_features: Sequence[str] | None = None,
    ) -> list[tuple[datetime | None, dict[str, Value] | None]]:
        """In the order of the keys: the event timestamp and the values, or None and None."""
        version = config.entity_key_serialization_version
        keys = [serialize_entity_key(key, version) for key in entity_keys]
        query = (
            f'SELECT entity_key, feature_name, value, event_ts FROM "{_table(config, table)}" '  # noqa: S608
            f"WHERE entity_key IN ({','.join('?' * len(keys))}) ORDER BY entity_key"
        )
        found = self._get_conn(config).execute(query, keys).fetchall()
        values = {key: _values(group) for key, group in groupby(found, lambda row: row[0])}
        return [values.get(key, (None, None)) for key in keys]


def _table(config: RepoConfig, view: FeatureView) -> str:
    versions = config.registry.enable_online_feature_view_versioning
    return str(compute_table_id(config.project, view, versions)).replace('"', '""')


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    # Immediate: a reading transaction that turns into a writing one can fail at once.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _rows(data: Sequence[Row], version: int) -> Iterator[tuple[bytes, str, bytes, int, int | None]]:
    for key, values, event, created in data:
        entity_key = serialize_entity_key(key, version)
        event_ts, created_ts = _microseconds(event), created and _microseconds(created)
        for name, value in values.items():
            yield entity_key, name, value.SerializeToString(), event_ts, created_ts


def _microseconds(moment: datetime) -> int:
    """Since 1970; a time without zone is in UTC, as everywhere in Feast."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _MICROSECOND


def _values(rows: Iterator[tuple[bytes, str, bytes, int]]) -> tuple[datetime, dict[str, Value]]:
    values, newest = {}, 0
    for _, name, value, event_ts in rows:
        values[name] = Value.FromString(value)
        newest = max(newest, event_ts)
    return _EPOCH + newest * _MICROSECOND, values
