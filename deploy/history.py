"""Questions to the ledger's events: what served when, and what was healthy. Pure functions."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from deploy.events import Event, Live


def serving_at(events: Sequence[Event], moment: datetime) -> Event | None:
    """The event that led to what served at that moment; events: of one model and environment, in
    order. None before the first one."""
    raise NotImplementedError


def last_healthy(events: Sequence[Event]) -> Live | None:
    """The version to return to from what serves now, with weight 100, or None.

    It had all traffic before what serves now, and was not rolled back from since it last got it.
    events: as for `serving_at`.
    """
    raise NotImplementedError


Result = Literal["in progress", "released", "rolled back", "superseded"]


def release_result(events: Sequence[Event], started: Event) -> tuple[Result, Event]:
    """What became of the release that `started` began, and the event that says so.

    released: the candidate has all traffic (its bake time may still run). superseded: somebody
    changed something by hand in between. events: as for `serving_at`, `started` among them.
    """
    raise NotImplementedError
