"""The rows of an area: Parquet files and the segments that are not compacted yet, each row once,
whatever the compaction does meanwhile (see deploy/predictions/compaction.py)."""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from bentos.prediction_log.segments import Header, SegmentError
from deploy.predictions.areas import Area
from deploy.predictions.plans import Plan, Taken, plan_of, read_plans
from deploy.predictions.segment_files import SegmentFile, list_segments
from deploy.predictions.store import Store
from deploy.predictions.tables import microseconds, schema_of, timestamps
from deploy.predictions.union import united

_log = logging.getLogger("slipway.predictions")
_KEYS = ("request_id", "row")
ORDER = [("time", "ascending"), ("request_id", "ascending"), ("row", "ascending")]


@dataclass(frozen=True)
class Filter:
    """Which rows. since: included; until: not. Names that are None are not asked for.

    ValueError for a time without a zone.
    """

    since: datetime | None = None
    until: datetime | None = None
    sources: tuple[str, ...] | None = None
    request_id: str | None = None
    status: int | None = None
    label: str | None = None
    request_ids: Any = None
    """A pyarrow array of strings: of those requests alone."""

    def __post_init__(self) -> None:
        for moment in (self.since, self.until):
            if moment is not None:
                microseconds(moment)

    def has_day(self, day: date) -> bool:
        """Whether rows of that day (UTC) may be among them."""
        return (self.since is None or day >= self.since.astimezone(UTC).date()) and (
            self.until is None or day <= self.until.astimezone(UTC).date()
        )

    @property
    def columns(self) -> list[str]:
        """Those that it looks at."""
        named = ("request_id", "status", "label")
        asked = [name for name in named if getattr(self, name) is not None]
        asked += [] if self.request_ids is None else ["request_id"]
        return ["time", *asked, *([] if self.sources is None else ["source"])]

    def expression(self) -> Any:
        """For pyarrow; None for all rows."""
        import pyarrow.compute as pc
        from pyarrow import scalar

        def moment(value: datetime) -> Any:
            return scalar(microseconds(value)).cast(timestamps())

        terms = []
        if self.since is not None:
            terms.append(pc.field("time") >= moment(self.since))
        if self.until is not None:
            terms.append(pc.field("time") < moment(self.until))
        if self.sources is not None:
            terms.append(pc.field("source").isin(list(self.sources)))
        if self.request_ids is not None:
            terms.append(pc.field("request_id").isin(self.request_ids))
        for name in ("request_id", "status", "label"):
            if (value := getattr(self, name)) is not None:
                terms.append(pc.field(name) == value)
        found = None
        for term in terms:
            found = term if found is None else found & term
        return found


def read_rows(
    area: Area,
    model: str,
    environment: str,
    which: Filter,
    columns: Sequence[str] | None = None,
    share: float = 1.0,
) -> Any:
    """Rows of an area as one table, sorted by time. share: of them, about, drawn with a seed."""
    import numpy as np

    needed = None if columns is None else list(dict.fromkeys([*columns, *_KEYS, *which.columns]))
    parts = []
    draw = np.random.default_rng(0)
    for part in scan(area, model, environment, which, needed):
        rows = part if share >= 1 else part.filter(draw.random(part.num_rows) < share)
        if rows.num_rows:
            parts.append(rows)
    empty = schema_of(Header(kind=area.kind, environment=environment, model=model)).empty_table()
    found = united(parts) if parts else select(empty, needed)
    return select(found.sort_by(ORDER), columns)


def select(table: Any, columns: Collection[str] | None) -> Any:
    """Those columns that the table has, in its order; None: all."""
    if columns is None:
        return table
    return table.select([name for name in table.column_names if name in columns])


def scan(
    area: Area, model: str, environment: str, which: Filter, columns: list[str] | None = None
) -> Iterator[Any]:
    """The rows as tables, the newest files first, each row once; columns: must have those that the
    filter looks at. The segments are read at once, the Parquet files one by one as asked for."""
    store = area.store()
    with area.looking():
        plans = read_plans(area)
        parts = list(_segment_rows(area, model, environment, which, columns, plans))
        files = _files(store, model, environment, which, plans)
    yield from parts
    for path in reversed(files):
        try:
            yield store.read(path, columns, which.expression())
        except FileNotFoundError:  # files only ever go because they are too old to be kept
            continue


def _files(
    store: Store, model: str, environment: str, which: Filter, plans: Sequence[Plan]
) -> list[str]:
    unfinished = {plan.id for plan in plans if plan.files is None}
    return [
        path
        for day, folder in store.days(model, environment).items()
        if which.has_day(day)
        for path in store.files(folder)
        if plan_of(path.rpartition("/")[2]) not in unfinished
    ]


def _segment_rows(
    area: Area,
    model: str,
    environment: str,
    which: Filter,
    columns: list[str] | None,
    plans: Sequence[Plan],
) -> Iterator[Any]:
    written = (plan for plan in plans if plan.files is not None)
    gone = {taken.name: taken for plan in written for taken in plan.segments}
    condition = which.expression()
    for segment in reversed(list_segments(area, environment, model)):
        for table in _readable(segment, gone, which.request_id):
            yield select(table if condition is None else table.filter(condition), columns)


def _readable(
    segment: SegmentFile, gone: Mapping[str, Taken], request_id: str | None
) -> Iterator[Any]:
    """What is damaged is left out here; compaction moves it to the quarantine and reports it."""
    try:
        if segment.name in gone and segment.taken() == gone[segment.name]:
            return
        # Looking for a text takes a fraction of the time that reading the rows does.
        if request_id is not None and not segment.has(request_id):
            return
        for _, table in segment.tables():
            yield table
    except FileNotFoundError:  # compaction has let it go: its rows are in Parquet files
        return
    except SegmentError as error:
        _log.warning("%s: %s", segment.path, error)
