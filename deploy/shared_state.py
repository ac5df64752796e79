"""What several replicas share beside the ledger, in its database: small documents by kind and key.

Not the ledger itself: each is the latest word on something, and is replaced. A table of its own,
so that who may only append to the ledger or read it needs no more rights there.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import sqlalchemy as sa

from deploy.database import Database
from deploy.events import LedgerConflictError
from deploy.home import Home

_TABLES = sa.MetaData()
_DOCUMENTS = sa.Table(
    "shared_documents",
    _TABLES,
    sa.Column("kind", sa.String(32), primary_key=True),
    sa.Column("key", sa.String(320), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("changed_at", sa.Float, nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
)


@dataclass(frozen=True)
class Document:
    """version: how often it was written; changed_at: Unix seconds."""

    key: str
    data: bytes
    version: int
    changed_at: float


class SharedState:
    """Raises LedgerError, as the ledger does. Nothing is created before something is written."""

    def __init__(self, url: str) -> None:
        self._database = Database(url, pooled=not url.startswith("sqlite"))
        self._file = _sqlite_file(url)
        self._created = False

    def read(self, kind: str, key: str) -> Document | None:
        """None where there is none."""
        return next(iter(self._select(kind, _DOCUMENTS.c.key == key)), None)

    def all(self, kind: str) -> list[Document]:
        """Those of a kind, by key."""
        return sorted(self._select(kind), key=lambda item: item.key)

    def write(self, kind: str, key: str, data: bytes, expected: int | None = None) -> int:
        """Replace it; returns its version. expected: the version that it is to follow, 0 for none;
        LedgerConflictError where somebody else was faster."""
        self._create()
        with self._database.transaction(writing=True) as connection:
            before = _version(connection, kind, key)
            if expected is not None and expected != before:
                raise LedgerConflictError(f"{kind} {key} was written by another process meanwhile")
            _replace(connection, kind, key, data, before)
        return before + 1

    def change(self, kind: str, key: str, change: Callable[[bytes | None], bytes]) -> None:
        """Replace it by what `change` makes of it, with nobody in between."""
        self._create()
        with self._database.transaction(writing=True) as connection:
            row = connection.execute(
                sa.select(_DOCUMENTS.c.data, _DOCUMENTS.c.version).where(*_is(kind, key))
            ).first()
            data = change(bytes(row.data) if row else None)
            _replace(connection, kind, key, data, row.version if row else 0)

    def remove(self, kind: str, *keys: str) -> None:
        """Harmless where they are gone."""
        if self._is_there():
            with self._database.transaction(writing=True) as connection:
                connection.execute(
                    _DOCUMENTS.delete().where(_DOCUMENTS.c.kind == kind, _DOCUMENTS.c.key.in_(keys))
                )

    def close(self) -> None:
        """Give the connections back."""
        self._database.close()

    def _select(self, kind: str, *where: sa.ColumnElement[bool]) -> list[Document]:
        if not self._is_there():
            return []
        query = sa.select(_DOCUMENTS).where(_DOCUMENTS.c.kind == kind, *where)
        with self._database.transaction() as connection:
            rows = connection.execute(query).all()
        return [Document(row.key, bytes(row.data), row.version, row.changed_at) for row in rows]

    def _is_there(self) -> bool:
        if self._file is not None and not self._file.exists():
            return False  # to look makes no database
        if not self._created:
            with self._database.transaction() as connection:
                self._created = sa.inspect(connection).has_table(_DOCUMENTS.name)
        return self._created

    def _create(self) -> None:
        if not self._is_there():
            self._database.create(_TABLES)


def _is(kind: str, key: str) -> tuple[sa.ColumnElement[bool], ...]:
    return _DOCUMENTS.c.kind == kind, _DOCUMENTS.c.key == key


def _version(connection: sa.Connection, kind: str, key: str) -> int:
    query = sa.select(_DOCUMENTS.c.version).where(*_is(kind, key))
    return connection.execute(query).scalar() or 0


def _replace(connection: sa.Connection, kind: str, key: str, data: bytes, before: int) -> None:
    values = {"version": before + 1, "changed_at": time.time(), "data": data}
    if before:
        connection.execute(_DOCUMENTS.update().where(*_is(kind, key)).values(**values))
    else:
        connection.execute(_DOCUMENTS.insert().values(kind=kind, key=key, **values))


def _sqlite_file(url: str) -> Path | None:
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None


_states: dict[str, SharedState] = {}
_lock = Lock()


def shared_state(home: Home) -> SharedState:
    """That of a home's ledger; one for the whole process, with a pool of connections."""
    with _lock:
        if home.ledger_url not in _states:
            _states[home.ledger_url] = SharedState(home.ledger_url)
        return _states[home.ledger_url]


def close_shared_states() -> None:
    """Give all connections back."""
    with _lock:
        while _states:
            _states.popitem()[1].close()
