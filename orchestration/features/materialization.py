"""Feature views into the online store."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from deploy.home import Home
from orchestration.features.errors import FeatureError
from orchestration.features.store import described_view, opened_store, read_description
from orchestration.features.watermarks import (
    Watermark,
    definition_of,
    locked,
    read_watermark,
    write_watermark,
)
from orchestration.features.windows import Span, rfc3339, span
from serving_config.features import Features


@dataclass(frozen=True)
class Materialized:
    """What a run did; rows: as many entities as got a value, None where nobody counted."""

    span: Span
    rows: int | None
    seconds: float


# Event timestamps from … up to … of a view into the online store: how many rows, if it is known.
Write = Callable[[str, datetime, datetime], int | None]


def materialize_view(
    home: Home, settings: Features, name: str, start: datetime, end: datetime, write: Write
) -> Materialized:
    """Materialize a window of a view and what is missing before it; the watermark moves last.

    A second run of the view waits for the first.
    """
    require_past(end)
    view = described_view(read_description(home), name)
    with locked(home, name):
        found = read_watermark(home, view, settings.store)
        wanted = span(found.until if found else None, start, end)
        begun = datetime.now(UTC)
        rows = write(name, wanted.start, wanted.end)
        now = datetime.now(UTC)
        mark = Watermark(until=wanted.until, at=now, definition=definition_of(view, settings.store))
        write_watermark(home, name, mark)
    return Materialized(wanted, rows, (now - begun).total_seconds())


def require_past(end: datetime) -> None:
    """FeatureError for a window that is not over: its later rows would be left out."""
    if end > (now := datetime.now(UTC)):
        raise FeatureError(
            f"a window that ends at {rfc3339(end)} is not over ({rfc3339(now)}): choose an "
            "earlier end"
        )


def into_online_store(home: Home, settings: Features) -> Write:
    """What Feast writes of a view."""

    def write(name: str, start: datetime, end: datetime) -> int | None:
        from feature_repo.materialize import materialize

        with opened_store(home, settings) as store:
            rows = materialize(store, name, start, end)
        return rows if isinstance(rows, int) else None

    return write
