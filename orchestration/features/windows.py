"""The windows in which feature views are materialized, and how far a run goes. Pure functions."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

Every = Literal["hour", "day"]
LENGTHS = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
# As Dagster writes the keys of hourly and daily partitions.
_KEYS = {"hour": "%Y-%m-%d-%H:%M", "day": "%Y-%m-%d"}
# A view that was never materialized takes everything that its source has.
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Span:
    """What a run is to do: event timestamps from `start` up to `end`, and the watermark after."""

    start: datetime
    end: datetime
    until: datetime


def span(watermark: datetime | None, start: datetime, end: datetime) -> Span:
    """The window from `start` to `end`, and whatever is missing before it.

    A window that lies before the watermark is done again, and leaves the watermark where it is.
    """
    reached = watermark or BEGINNING
    return Span(min(reached, start), end, max(reached, end))


def last_window(every: Every, now: datetime) -> tuple[datetime, datetime]:
    """The latest window that is over."""
    length = LENGTHS[every]
    end = BEGINNING + (now - BEGINNING) // length * length
    return end - length, end


def windows(every: Every, start: datetime, end: datetime) -> list[datetime]:
    """The starts of the windows that lie between the two as a whole, in order."""
    length = LENGTHS[every]
    first = BEGINNING - (BEGINNING - start) // length * length
    count = max(0, (end - first) // length)
    return [first + i * length for i in range(count)]


def window_key(every: Every, start: datetime) -> str:
    """The partition key of the window that begins then."""
    return start.strftime(_KEYS[every])


def last_key(every: Every, now: datetime) -> str:
    """The partition key of the latest window that is over."""
    return window_key(every, last_window(every, now)[0])


def rfc3339(moment: datetime) -> str:
    """In UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
