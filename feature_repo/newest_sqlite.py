"""A SQLite online store for Feast in which the newest event timestamp wins, as on Feast's Redis.

With Feast 0.67's own the last writer wins, so that materializing yesterday hides today's push; its
times are whole seconds of the machine's time zone, ambiguous when summer time ends; and a row for
each feature makes it slow. Here an entity is one row of its feature view's table, times are
microseconds of UTC, a batch is one transaction, and readers go on meanwhile (write-ahead log).
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from feast import Entity, FeatureView
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import compute_table_id
from feast.infra.online_stores.online_store import OnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from sqlalchemy.dialects import plugins

from feature_repo.home import features_home

Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]
Found = tuple[datetime | None, dict[str, Value] | None]

# So that `feature_store.yaml` can name a registry below SLIPWAY_FEATURES_HOME: Feast imports this
# module when it reads that file, before it opens the registry.
plugins.register("features_home", "feature_repo.home_plugin", "FeaturesHomePlugin")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_BUSY_SECONDS = 30
_MOST_KEYS = 10_000  # SQLite takes 32,766 parameters

_CREATE = """
CREATE TABLE IF NOT EXISTS "{table}"
(entity_key BLOB PRIMARY KEY, event_ts INTEGER NOT NULL, features BLOB NOT NULL)
"""
_UPSERT = """
INSERT INTO "{table}" (entity_key, event_ts, features) VALUES (?, ?, ?)
ON CONFLICT (entity_key) DO UPDATE SET event_ts = excluded.event_ts, features = excluded.features
WHERE excluded.event_ts >= "{table}".event_ts
"""
_SELECT = 'SELECT entity_key, event_ts, features FROM "{table}" WHERE entity_key IN ({keys})'
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, bytes]).decode


class NewestSqliteOnlineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]
    """path: a relative one is below `SLIPWAY_FEATURES_HOME`."""

    type: str = "feature_repo.newest_sqlite.NewestSqliteOnlineStore"
    path: str = "online.db"


class NewestSqliteOnlineStore(OnlineStore):  # type: ignore[misc]
    """What `online_store.type` names in `feature_store.yaml`."""

    def __init__(self) -> None:
        super().__init__()
        self._connection: sqlite3.Connection | None = None
        self._opening, self._writing = threading.Lock(), threading.Lock()

    def _open(self, config: RepoConfig) -> sqlite3.Connection:
        with self._opening:
            if self._connection is None:
                path = features_home() / config.online_store.path
                path.parent.mkdir(parents=True, exist_ok=True)
                connection = sqlite3.connect(
                    path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
                )
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                self._connection = connection
            return self._connection

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: Sequence[Row],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """All rows or none; a row older than what is there changes nothing."""
        statement = _UPSERT.format(table=_table(config, table))
        # Sorted, so that neighbours on disk are written one after the other: twice as fast.
        rows = sorted(_rows(data, config.entity_key_serialization_version))
        with self._writing, _transaction(self._open(config)) as connection:
            connection.executemany(statement, rows)
        if progress:
            progress(len(data))

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: Sequence[EntityKey],
        requested_features: Sequence[str] | None = None,
    ) -> list[Found]:
        """In the order of the keys: the event timestamp and the values, or None and None."""
        version = config.entity_key_serialization_version
        keys = [serialize_entity_key(key, version) for key in entity_keys]
        found: dict[bytes, Found] = {}
        for start in range(0, len(keys), _MOST_KEYS):
            some = keys[start : start + _MOST_KEYS]
            query = _SELECT.format(table=_table(config, table), keys=",".join("?" * len(some)))
            for key, event_ts, features in self._open(config).execute(query, some):
                found[key] = _EPOCH + event_ts * _MICROSECOND, _values(features, requested_features)
        return [found.get(key, (None, None)) for key in keys]

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Tables for the views that are kept, and none for the others."""
        with self._writing, _transaction(self._open(config)) as connection:
            for view in tables_to_keep:
                connection.execute(_CREATE.format(table=_table(config, view)))
            for view in tables_to_delete:
                connection.execute(f'DROP TABLE IF EXISTS "{_table(config, view)}"')

    def teardown(
        self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]
    ) -> None:
        """What `feast teardown` does here: the views' tables are dropped."""
        self.update(config, tables, [], entities, [], partial=False)


def _table(config: RepoConfig, view: FeatureView) -> str:
    versions = config.registry.enable_online_feature_view_versioning
    return str(compute_table_id(config.project, view, versions)).replace('"', '""')


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    # Immediate: a reading transaction that turns into a writing one can fail at once.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:  # after some errors, SQLite itself has rolled back
            connection.execute("ROLLBACK")


def _rows(data: Sequence[Row], version: int) -> Iterator[tuple[bytes, int, bytes]]:
    for key, values, event, _ in data:
        features = {name: value.SerializeToString() for name, value in values.items()}
        yield serialize_entity_key(key, version), _microseconds(event), _encode(features)


def _microseconds(moment: datetime) -> int:
    """Since 1970; a time without zone is in UTC, as everywhere in Feast."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _MICROSECOND


def _values(features: bytes, requested: Sequence[str] | None) -> dict[str, Value]:
    values = _decode(features)
    names = values if requested is None else [name for name in requested if name in values]
    return {name: Value.FromString(values[name]) for name in names}
