"""The ledger: an append-only, hash-chained record of what each environment serves.

Each event holds the hash of the one before. The current state of one model in one environment
has a generation; a writer states the generation it decided on, and of two writers that race one
wins and the other gets LedgerConflictError.
"""

from datetime import UTC, datetime
from typing import Self

import msgspec
import sqlalchemy as sa

from deploy.database import Database
from deploy.events import (
    GENESIS,
    Change,
    Event,
    LedgerConflictError,
    LedgerError,
    Live,
    State,
)
from deploy.home import Home
from deploy.ledger_tables import EVENTS, STATE, TABLES, event_of, read_events, read_states, row_of
from serving_config.schema import Configuration


class Ledger:
    """See the module. `url` is a SQLAlchemy URL: SQLite as shipped, PostgreSQL elsewhere."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        try:
            self._database.create(TABLES)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._database.close()

    def state(self, environment: str, model: str) -> State:
        """What the environment serves of the model."""
        return self.states().get((environment, model), State(environment, model))

    def states(self) -> dict[tuple[str, str], State]:
        """All states by (environment, model)."""
        with self._database.transaction() as connection:
            return read_states(connection)

    def record(self, change: Change) -> Event:
        """Append the event and move the state in one transaction.

        Raises LedgerConflictError where the state is not at `change.base.generation` any more.
        """
        _check_weights(change.live)
        event: Event | None = None
        try:
            with self._database.transaction(writing=True) as connection:
                self._move(connection, change)
                event = self._append(connection, change)
        except LedgerConflictError:
            raise
        except LedgerError:
            # The connection may have died when the database had it already.
            if event is None or not self._holds(event):
                raise
        return event

    def _holds(self, event: Event) -> bool:
        with self._database.transaction() as connection:
            found = connection.execute(sa.select(EVENTS.c.id).where(EVENTS.c.hash == event.hash))
            return found.first() is not None

    def _move(self, connection: sa.Connection, change: Change) -> None:
        base = change.base
        values = {
            "generation": base.generation + 1,
            "live": msgspec.json.encode(change.live).decode(),
        }
        if base.generation == 0:
            # A row that is there already violates the primary key: a conflict.
            connection.execute(
                STATE.insert().values(environment=base.environment, model=base.model, **values)
            )
            return
        moved = connection.execute(
            STATE.update()
            .where(STATE.c.environment == base.environment, STATE.c.model == base.model)
            .where(STATE.c.generation == base.generation)
            .values(**values)
        )
        if moved.rowcount != 1:
            raise LedgerConflictError(
                f"{base.model} in {base.environment} is no longer at generation "
                f"{base.generation}: another release was faster; look at it and try again"
            )

    def _append(self, connection: sa.Connection, change: Change) -> Event:
        last = connection.execute(
            sa.select(EVENTS.c.id, EVENTS.c.hash).order_by(EVENTS.c.id.desc()).limit(1)
        ).first()
        event = Event(
            id=last.id + 1 if last else 1,
            at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            environment=change.base.environment,
            model=change.base.model,
            generation=change.base.generation + 1,
            action=change.action,
            version=change.subject.version,
            variant=change.subject.variant,
            onnx_sha256=change.subject.onnx_sha256,
            weight=change.subject.weight,
            actor=change.actor,
            dagster_run=change.dagster_run,
            evidence=change.evidence,
            live=change.live,
            previous_hash=last.hash if last else GENESIS,
            hash="",
        )
        event = msgspec.structs.replace(event, hash=event.expected_hash())
        connection.execute(EVENTS.insert().values(**row_of(event)))
        return event

    def last_event(self, environment: str, model: str) -> Event | None:
        """The event that led to the state of the model in the environment."""
        query = (
            sa.select(EVENTS)
            .where(EVENTS.c.environment == environment, EVENTS.c.model == model)
            .order_by(EVENTS.c.id.desc())
            .limit(1)
        )
        with self._database.transaction() as connection:
            return next(iter(read_events(connection, query)), None)

    def events(
        self,
        model: str | None = None,
        environment: str | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> list[Event]:
        """Events in the order they happened; those with an id above `after`, at most `limit`."""
        query = sa.select(EVENTS).where(EVENTS.c.id > after).order_by(EVENTS.c.id).limit(limit)
        if model is not None:
            query = query.where(EVENTS.c.model == model)
        if environment is not None:
            query = query.where(EVENTS.c.environment == environment)
        with self._database.transaction() as connection:
            return read_events(connection, query)

    def check(self) -> int:
        """Follow the chain and return the number of events.

        LedgerError names the first row that was changed, added or removed. Whoever takes the last
        events out and makes the states fit leaves a whole, shorter chain.
        """
        with self._database.transaction() as connection:  # one moment: others may write meanwhile
            rows = connection.execute(sa.select(EVENTS).order_by(EVENTS.c.id)).mappings().all()
            current = read_states(connection)
        previous = GENESIS
        states: dict[tuple[str, str], State] = {}
        for number, row in enumerate(rows, start=1):
            event = event_of(row)
            if event.id != number or event.previous_hash != previous:
                raise LedgerError(
                    f"the chain breaks before event {event.id}: a row is missing, or one was added"
                )
            if event.hash != event.expected_hash() or row_of(event) != dict(row):
                raise LedgerError(f"event {event.id} is not what was written: a row was changed")
            previous = event.hash
            place = (event.environment, event.model)
            states[place] = State(*place, event.generation, event.live)
        for place in sorted(states.keys() | current.keys()):
            if states.get(place) != current.get(place):
                raise LedgerError(
                    f"the state of {place[1]} in {place[0]} is not what the events lead to: it "
                    "was changed, or events are missing"
                )
        return len(rows)


def open_ledger(home: Home, configuration: Configuration) -> Ledger:
    """The platform's ledger: the configured one, or the home's own."""
    return Ledger(configuration.platform.ledger_url or home.ledger_url)


def _check_weights(live: tuple[Live, ...]) -> None:
    weights = [item.weight for item in live]
    if not all(0 <= weight <= 100 for weight in weights):
        raise LedgerError(f"weights must be between 0 and 100, got {weights}")
    if live and sum(weights) != 100:
        raise LedgerError(f"weights must sum to 100, got {weights}")
    if any(not 0 <= item.mirror <= 100 or (item.mirror and item.weight) for item in live):
        raise LedgerError("only a version without traffic may get copied requests, 0 to 100 %")
    if len({item.label for item in live}) != len(live):
        raise LedgerError(f"a version is live twice: {[item.label for item in live]}")
