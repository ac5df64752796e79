"""Feature views into the online store."""

from collections.abc import Callable, Mapping
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
    """What a run did; counts: rows, entities and so on, as whoever wrote them counted."""

    span: Span
    counts: Mapping[str, int]
    seconds: float


# Event timestamps from … to before … of a view into the online store; counts what it found.
Write = Callable[[str, datetime, datetime], Mapping[str, int]]


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
        counts = write(name, wanted.start, wanted.end)
        now = datetime.now(UTC)
        mark = Watermark(
            until=wanted.until,
            at=now,
            definition=definition_of(view, settings.store),
            rows=counts.get("rows", 0),
        )
        write_watermark(home, name, mark)
    return Materialized(wanted, counts, (now - begun).total_seconds())


def require_past(end: datetime) -> None:
    """FeatureError for a window that is not over: its later rows would be left out."""
    if end > (now := datetime.now(UTC)):
        raise FeatureError(
            f"a window that ends at {rfc3339(end)} is not over ({rfc3339(now)}): choose an "
            "earlier end"
        )


def into_online_store(home: Home, settings: Features) -> Write:
    """What Feast writes of a view."""

    def write(name: str, start: datetime, end: datetime) -> Mapping[str, int]:
        from feature_repo.materialize import MaterializationError, materialize
        from feature_repo.source_files import SourceError

        with opened_store(home, settings) as store:
            try:
                done = materialize(store, name, start, end)
            except (MaterializationError, SourceError) as error:
                raise FeatureError(str(error)) from error
        return {
            "rows": done.rows,
            "entities": done.entities,
            "duplicates": done.duplicates,
            "future_rows": done.future,
        }

    return write
