"""A rollback that a person asks for, who may be later than the controller or somebody else."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from deploy.changes import patiently
from deploy.events import Actor, Event
from deploy.history import moment_of
from deploy.rollback import is_open
from deploy.traffic import Traffic
from deploy.weights import weights_of

_RECENT = timedelta(minutes=5)


class RolledBackAlreadyError(ValueError):
    """What was asked for was done a moment ago; once more would go one version further."""


def roll_back(
    traffic: Traffic,
    environment: str,
    model: str,
    actor: Actor,
    reason: str,
    expected: int | None = None,
    *,
    again: bool = False,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Event:
    """`Traffic.rollback`, unless the last event is a rollback of the last five minutes.

    RolledBackAlreadyError then, but for `again`. One that was killed before its end is ended.
    """
    if again:
        return _one_further(traffic, environment, model, actor, reason, expected)

    def once() -> Event:
        last = traffic.ledger.last_event(environment, model)
        if last is not None and last.action == "rollback":
            age = clock() - moment_of(last)
            if age <= _RECENT and not is_open(traffic.ledger, traffic.target, last.state):
                raise RolledBackAlreadyError(_done(last, age))
        seen = last.generation if last is not None and expected is None else expected
        return traffic.rollback(environment, model, actor, reason, seen)

    return patiently(expected, once)


def _one_further(
    traffic: Traffic, environment: str, model: str, actor: Actor, reason: str, expected: int | None
) -> Event:
    last = traffic.ledger.last_event(environment, model)
    event = traffic.rollback(environment, model, actor, reason, expected)
    if last is not None and event.id == last.id:
        raise RolledBackAlreadyError(
            f"the rollback of {model} before this one was not over, and was ended: "
            "to go back one further, try again"
        )
    return event


def _done(event: Event, age: timedelta) -> str:
    left = event.evidence.get("from")
    versions = ", ".join(map(str, left)) if isinstance(left, list) else "(unknown)"
    place = "" if event.environment == "production" else f" --environment {event.environment}"
    return (
        f"version {versions} was rolled back {max(0, round(age.total_seconds()))} s ago "
        f"({event.evidence.get('reason') or 'no reason given'}); {event.model} in "
        f"{event.environment} has {weights_of(event.state)}. To go back one further: "
        f'`slipway rollback {event.model}{place} --again`, over the API "again": true'
    )
