"""The ledger's tables, and what their rows say."""

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from deploy.events import Event, LedgerError, Live, State

TABLES = sa.MetaData()
EVENTS = sa.Table(
    "deployment_events",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.String(40), nullable=False),
    sa.Column("environment", sa.String(63), nullable=False),
    sa.Column("model", sa.String(63), nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("action", sa.String(16), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("variant", sa.String(16), nullable=False),
    sa.Column("onnx_sha256", sa.String(64), nullable=False),
    sa.Column("weight", sa.Integer, nullable=False),
    sa.Column("actor", sa.String(256), nullable=False),
    sa.Column("dagster_run", sa.String(64)),
    sa.Column("evidence", sa.Text, nullable=False),
    sa.Column("live", sa.Text, nullable=False),
    # Unique: two writers cannot append to the same row, whatever the isolation level.
    sa.Column("previous_hash", sa.String(64), nullable=False, unique=True),
    sa.Column("hash", sa.String(64), nullable=False, unique=True),
)
STATE = sa.Table(
    "deployment_state",
    TABLES,
    sa.Column("environment", sa.String(63), primary_key=True),
    sa.Column("model", sa.String(63), primary_key=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("live", sa.Text, nullable=False),
)


def _decode(text: str, kind: Any, where: str) -> Any:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError as error:
        raise LedgerError(f"{where} cannot be read: a row was changed: {error}") from error


def _stored_state(row: Mapping[Any, Any]) -> State:
    where = f"the state of {row['model']} in {row['environment']}"
    live = _decode(row["live"], tuple[Live, ...], where)
    return State(row["environment"], row["model"], row["generation"], live)


def event_of(row: Mapping[Any, Any]) -> Event:
    """The event of a row; LedgerError where the row was changed so that it is none."""
    columns, where = dict(row), f"event {row['id']}"
    columns["evidence"] = _decode(columns["evidence"], dict[str, Any], where)
    columns["live"] = _decode(columns["live"], tuple[Live, ...], where)
    return Event(**columns)


def row_of(event: Event) -> dict[str, Any]:
    """The row of an event."""
    row = msgspec.structs.asdict(event)
    row["evidence"] = msgspec.json.encode(event.evidence).decode()
    row["live"] = msgspec.json.encode(event.live).decode()
    return row


def read_states(connection: sa.Connection) -> dict[tuple[str, str], State]:
    """All states by (environment, model)."""
    rows = connection.execute(sa.select(STATE)).mappings()
    return {(row["environment"], row["model"]): _stored_state(row) for row in rows}


def read_events(connection: sa.Connection, query: sa.Select[Any]) -> list[Event]:
    """The events that a query of EVENTS finds."""
    return [event_of(row) for row in connection.execute(query).mappings()]
