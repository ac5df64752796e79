"""Questions to the ledger's events: what served when, and what was healthy. Pure functions.

`events` are always those of one model and environment, in the order they happened. A `revert`
takes back the event right before it, which therefore never counts.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Literal

from deploy.events import Event, LedgerError, Live


def moment_of(event: Event) -> datetime:
    """When the event was written; LedgerError where its row says no time."""
    try:
        return datetime.fromisoformat(event.at)
    except ValueError as error:
        raise LedgerError(f"event {event.id} says no time: a row was changed: {error}") from error


def serving_at(events: Sequence[Event], moment: datetime) -> Event | None:
    """The event that led to what served at that moment (with its time zone); None before the
    first one."""
    return next((event for event in reversed(events) if moment_of(event) <= moment), None)


def in_force(events: Sequence[Event]) -> list[Event]:
    """The events without those that were taken back, and without what took them back."""
    kept: list[Event] = []
    for event in events:
        if event.action != "revert":
            kept.append(event)
        elif kept:
            kept.pop()
    return kept


def brought_in(events: Sequence[Event], last: Event, bento_digest: str) -> Event:
    """The event since which, up to `last`, that Bento is live without a gap; `last` if it is not.

    What it is asked for: who began to serve a Bento whose share was changed many times since.
    """
    first = last
    for event in reversed(in_force([event for event in events if event.id <= last.id])):
        if all(live.bento_digest != bento_digest for live in event.live):
            break
        first = event
    return first


def last_healthy(events: Sequence[Event]) -> Live | None:
    """The version to return to from what serves now, with weight 100, or None.

    In a release, its stable version if it has one: another build of the version that serves has
    none beside it. Otherwise the last that had all traffic, is not the one that has it now, and was
    not rolled back from, nor found unhealthy, since it last got it. Where traffic is split by hand,
    this is the last one that had all of it.
    """
    if not events:
        return None
    if (phase := events[-1].phase) is not None and phase.stable is not None:
        return phase.stable.with_share(100)
    healthy: dict[str, Live] = {}
    before: Event | None = None
    for event in in_force(events):
        if event.action == "rollback" and before is not None:
            for condemned in _rolled_back_from(before):
                healthy.pop(condemned.bento_digest, None)
        for live in _had_all(event):
            healthy.pop(live.bento_digest, None)  # to its place at the end
            if event.action != "unhealthy":
                healthy[live.bento_digest] = live
        before = event
    for now in _had_all(events[-1]):
        healthy.pop(now.bento_digest, None)
    return list(healthy.values())[-1].with_share(100) if healthy else None


def _had_all(event: Event) -> list[Live]:
    return [live for live in event.live if live.weight == 100]


def _rolled_back_from(before: Event) -> list[Live]:
    """Whatever had traffic before a rollback, and a candidate that had none yet. The version that
    the rollback goes to gets all traffic by it, and so is healthy again."""
    candidate = before.phase.candidate if before.phase else None
    return [live for live in before.live if live.weight > 0 or live.label == candidate]


Result = Literal["in progress", "released", "rolled back", "superseded"]


def release_result(events: Sequence[Event], started: Event) -> tuple[Result, Event]:
    """What became of the release that `started` began, and the event that says so.

    released: the candidate has all traffic (its bake time may still run). superseded: somebody
    changed something by hand in between. events: as for `serving_at`, `started` among them.
    """
    following = [event for event in events if event.id >= started.id]
    candidate = started.phase.candidate if started.phase else started.label
    result: tuple[Result, Event] = ("in progress", started)
    for event, after in zip(following, [*following[1:], None], strict=True):
        if after is not None and after.action == "revert":
            continue
        result = _result_after(event, candidate, result)
        if event.phase is None or event.phase.candidate != candidate:
            break
    return result


def taken_away(events: Sequence[Event], runs: Collection[str]) -> tuple[Result, Event] | None:
    """How the release ended that one of these Dagster runs has begun, where it got traffic and
    has lost it again; None otherwise, for a run that was killed before that as well."""
    own = [event for event in in_force(events) if event.dagster_run in runs]
    begun = [event for event in own if event.action not in ("load", "retire")]
    if not begun:
        return None
    result, event = release_result(events, begun[-1])
    if result == "released" and all(live.label != event.label for live in _had_all(events[-1])):
        result, event = "superseded", events[-1]
    return (result, event) if result in ("rolled back", "superseded") else None


def _result_after(
    event: Event, candidate: str, before: tuple[Result, Event]
) -> tuple[Result, Event]:
    has_all = any(live.label == candidate for live in _had_all(event))
    if event.action == "rollback":
        return "rolled back", event
    if before[0] == "released":  # in its bake time, whatever a person does then
        return before
    if has_all:
        return "released", event
    if event.phase is not None and event.phase.candidate == candidate:
        return "in progress", event
    if event.action == "revert" and all(live.label != candidate for live in event.live):
        return "rolled back", event
    return "superseded", event
