"""The time windows of a feature view, as Dagster's partitions."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from orchestration.features.windows import Every, window_key, windows

# How far back Dagster lists windows. It goes along with the time at which the definitions are
# loaded: each window is an event, and the first run has all of them. A run may reach further.
_LISTED = {"hour": timedelta(days=2), "day": timedelta(days=30)}


def view_partitions(every: Every, now: datetime) -> dg.TimeWindowPartitionsDefinition:
    """The windows up to now, in UTC."""
    day = datetime.combine((now - _LISTED[every]).date(), datetime.min.time(), UTC)
    if every == "hour":
        return dg.HourlyPartitionsDefinition(start_date=day)
    return dg.DailyPartitionsDefinition(start_date=day)


def covered(
    every: Every, first: datetime, start: datetime, end: datetime, own: set[str]
) -> list[str]:
    """The windows that a run from `start` to `end` did besides its `own` ones.

    first: the start of the first window that Dagster lists.
    """
    keys = (window_key(every, item) for item in windows(every, max(start, first), end))
    return [key for key in keys if key not in own]
