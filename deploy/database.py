"""Transactions of the ledger's database: SQLite as shipped, PostgreSQL elsewhere.

Writers wait for each other, so that what one reads in its transaction is still so when it
commits; readers wait for nobody and see one moment.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from deploy.events import LedgerConflictError, LedgerError

# One lock for all writers. Not a lock of the table: that would need the right to change rows, and
# the role that appends to the ledger should not have it.
_LOCK = int.from_bytes(b"slipway", "big")
# What a transaction begins with, by dialect and whether it writes. SQLite takes its write lock
# here and not at the first write, where it would find that somebody was faster.
_BEGIN = {
    ("sqlite", False): ("BEGIN",),
    ("sqlite", True): ("BEGIN IMMEDIATE",),
    ("postgresql", True): (
        "SET LOCAL lock_timeout = '10s'",
        f"SELECT pg_advisory_xact_lock({_LOCK})",
    ),
}
# A statement behind the lock has to see what the writer before has committed.
_OPTIONS: dict[tuple[str, bool], dict[str, Any]] = {
    ("postgresql", False): {"isolation_level": "REPEATABLE READ"},
    ("postgresql", True): {"isolation_level": "READ COMMITTED"},
}
# Seconds, and milliseconds for the last: a server that has gone is an error, not a hang.
_TIMEOUTS = {"connect_timeout": 5, "keepalives_idle": 10, "tcp_user_timeout": 20_000}


class Database:
    """Raises LedgerError in one sentence, never with the password, for whatever goes wrong.

    pooled: whether connections are kept for the next transaction.
    """

    def __init__(self, url: str, *, pooled: bool = True) -> None:
        parsed = _parsed(url)
        shown = parsed.difference_update_query(["password", "sslpassword"])
        self._name = shown.render_as_string(hide_password=True)
        self._dialect = parsed.get_backend_name()
        self.engine = _engine(parsed, pooled=pooled)

        @sa.event.listens_for(self.engine, "begin")
        def begin(connection: sa.Connection) -> None:
            writing = bool(connection.get_execution_options().get("writing"))
            for statement in _BEGIN.get((self._dialect, writing), ()):
                connection.exec_driver_sql(statement)

    @contextmanager
    def transaction(self, *, writing: bool = False) -> Iterator[sa.Connection]:
        """All of it or nothing."""
        options = _OPTIONS.get((self._dialect, writing), {})
        try:
            with self.engine.connect() as connection:
                connection.execution_options(writing=writing, **options)
                with connection.begin():
                    yield connection
        except sa.exc.IntegrityError as error:
            raise LedgerConflictError("the ledger changed at the same moment: try again") from error
        except sa.exc.SQLAlchemyError as error:
            reason = " ".join(str(getattr(error, "orig", None) or error).split())
            raise LedgerError(f"the ledger {self._name} failed: {reason}") from error

    def create(self, tables: sa.MetaData) -> None:
        """Create what is missing: who may only read can use what there is."""
        with self.transaction() as connection:
            existing = set(sa.inspect(connection).get_table_names())
        if not existing.issuperset(tables.tables):
            with self.transaction(writing=True) as connection:
                tables.create_all(connection)

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()


def _parsed(url: str) -> sa.URL:
    try:
        return sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        # Not the error's own words: they may hold a part of the password.
        raise LedgerError(
            "the ledger's URL cannot be read: sqlite:///FILE or "
            "postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE; write @ : / % in the "
            "password as %40 %3A %2F %25"
        ) from None


def _engine(url: sa.URL, *, pooled: bool) -> sa.Engine:
    timeouts = _TIMEOUTS if url.get_backend_name() == "postgresql" else {}
    arguments = {name: value for name, value in timeouts.items() if name not in url.query}
    try:
        engine = sa.create_engine(
            url,
            pool_pre_ping=pooled,
            poolclass=None if pooled else sa.NullPool,
            connect_args=arguments,
        )
    except sa.exc.ArgumentError as error:
        raise LedgerError(f"the ledger's URL cannot be used: {error}") from error
    except ImportError as error:
        raise LedgerError(f"the ledger needs slipway's extra `postgres`: {error}") from error
    if engine.dialect.name == "sqlite":

        @sa.event.listens_for(engine, "connect")
        def connect(connection: Any, _record: Any) -> None:
            connection.isolation_level = None  # transactions begin and end as we say
            connection.execute("PRAGMA busy_timeout = 10000")
            connection.execute("PRAGMA synchronous = FULL")

    return engine
