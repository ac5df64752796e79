"""Which of several control processes leads: it alone releases, probes and alerts; all answer.

On PostgreSQL the leader holds an advisory lock in a session of its own, which the server ends with
the process, or some seconds after its machine has gone. The leader looks at that session before
each of its acts: without it, it begins nothing more, and that is sooner than the server gives the
lock to another one. What had begun by then cannot harm: changes compare and swap on the ledger's
generation, alerts on the version of what is on record.

With SQLite the lock of the home (`listener`) lets one process run at all, and that one leads.
"""

import logging
from collections.abc import Callable

import sqlalchemy as sa

from deploy.events import LedgerError

_LOCK = int.from_bytes(b"sl-lead", "big")
# A leader that is cut off knows after 1 (between two looks) + 3 seconds at most; the server gives
# its lock away after 4 + 5 * 1 at least.
_CONNECT = {"connect_timeout": 3, "tcp_user_timeout": 3000}
_SESSION = (
    "SET tcp_keepalives_idle = 4",
    "SET tcp_keepalives_interval = 1",
    "SET tcp_keepalives_count = 5",
    "SET tcp_user_timeout = 9000",
    "SET idle_session_timeout = 0",
)
logger = logging.getLogger("slipway.control")


def _nothing() -> None:
    """What follows from a change by default."""


class Leader:
    """For one thread. took: called when this process takes over, before its first act; lost: when
    it leads no longer."""

    def __init__(
        self, url: str, took: Callable[[], None] = _nothing, lost: Callable[[], None] = _nothing
    ) -> None:
        self._took, self._lost = took, lost
        self._connection: sa.Connection | None = None
        parsed = sa.make_url(url)
        self._alone = parsed.get_backend_name() != "postgresql"
        self.leading = self._alone
        if not self._alone:
            given = {key: value for key, value in _CONNECT.items() if key not in parsed.query}
            self._engine = sa.create_engine(
                parsed, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT", connect_args=given
            )

    def led(self, act: Callable[[], None]) -> Callable[[], None]:
        """`act`, in the process that leads."""

        def only_here() -> None:
            if self.leads():
                act()

        return only_here

    def leads(self) -> bool:
        """Look, and take over where nobody leads. LedgerError where nobody knows, which is no."""
        if self._alone:
            return True
        try:
            leads = self._look()
        except sa.exc.SQLAlchemyError as error:
            self.close()
            reason = " ".join(str(getattr(error, "orig", None) or error).split())
            raise LedgerError(f"no leader, the ledger's database fails: {reason}") from error
        self._change(leads)
        return leads

    def close(self) -> None:
        """End the session, and with it the lock."""
        if self._alone:
            return
        connection, self._connection = self._connection, None
        self._change(False)
        if connection is not None:
            try:
                connection.close()
            except sa.exc.SQLAlchemyError:  # it is dead already
                connection.invalidate()

    def _look(self) -> bool:
        if self._connection is None:
            self._connection = self._engine.connect()
            for statement in _SESSION:
                self._connection.exec_driver_sql(statement)
        if self.leading:  # the session has the lock as long as it is there
            self._connection.exec_driver_sql("SELECT 1")
            return True
        found = self._connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({_LOCK})")
        return bool(found.scalar())

    def _change(self, leads: bool) -> None:
        if leads == self.leading:
            return
        if leads:
            self._took()  # where that fails it does not lead yet: the next look tries again
        self.leading = leads
        logger.info("this control process %s", "leads now" if leads else "does not lead any more")
        if not leads:
            self._lost()
