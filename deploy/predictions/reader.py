"""Reading the prediction log: Parquet files and the segments that are not compacted yet, each
record once, whatever the compaction does meanwhile (see deploy/predictions/compaction.py)."""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from bentos.prediction_log.segments import Header, SegmentError, Source
from deploy.home import Home
from deploy.predictions.areas import Area, label_area, prediction_area
from deploy.predictions.plans import Plan, Taken, plan_of, read_plans
from deploy.predictions.segment_files import SegmentFile, list_segments
from deploy.predictions.store import Store
from deploy.predictions.tables import microseconds, schema_of, timestamps, united
from serving_config.schema import Configuration

CLIENTS: tuple[Source, ...] = ("client",)
# How long before an answer its label may have come in.
_EARLY_LABELS = timedelta(days=1)
_log = logging.getLogger("slipway.predictions")


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
        named = {"source": self.sources, "request_id": self.request_id}
        named |= {"status": self.status, "label": self.label}
        return ["time", *(name for name, value in named.items() if value is not None)]

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
        for name in ("request_id", "status", "label"):
            if (value := getattr(self, name)) is not None:
                terms.append(pc.field(name) == value)
        found = None
        for term in terms:
            found = term if found is None else found & term
        return found


def read_predictions(
    home: Home,
    configuration: Configuration,
    model: str,
    environment: str,
    since: datetime | None,
    until: datetime | None,
    columns: Sequence[str] | None = None,
    *,
    sources: tuple[Source, ...] = CLIENTS,
    label: str | None = None,
    status: int | None = None,
) -> Any:
    """A pyarrow Table sorted by time: the columns of the log (docs/predictions.md) of the answers
    from `since` to before `until`; None: without that end.

    columns: those that no version has are left out. Versions with other inputs are united by name.
    sources: whose requests; label: of that version alone; status: those alone.
    Raises ValueError for a time without a zone.
    """
    area = prediction_area(home, configuration.platform.predictions)
    which = Filter(since, until, sources, status=status, label=label)
    return read_rows(area, model, environment, which, columns)


def labelled(
    home: Home,
    configuration: Configuration,
    model: str,
    environment: str,
    since: datetime | None,
    until: datetime | None,
    columns: Sequence[str] | None = None,
    *,
    sources: tuple[Source, ...] = CLIENTS,
) -> Any:
    """Of those answers (status 200) the ones whose label is known, with `truth`, the latest label,
    in the type of the prediction, and `labelled_at`, when it came in.

    A label may come before its answer, by a day at most. A label that is no number is left out
    where the prediction is one, and logged.
    """
    wanted = None if columns is None else [*columns, "request_id", "row", "prediction", "time"]
    answers = read_predictions(
        home, configuration, model, environment, since, until, wanted, sources=sources, status=200
    )
    labels = read_labels(home, model, environment, since and since - _EARLY_LABELS)
    return _select(_joined(answers, labels), None if columns is None else [*columns, *_TRUTH])


_TRUTH = ("truth", "labelled_at")


def _joined(answers: Any, labels: Any) -> Any:
    truth = labels.select(["request_id", "row", "label", "time"])
    truth = truth.rename_columns(["request_id", "row", *_TRUTH])
    truth = _in_type(truth, answers.schema.field("prediction").type)
    joined = answers.join(truth, ["request_id", "row"], join_type="inner")
    return joined.select([*answers.column_names, *_TRUTH]).sort_by(_ORDER)


def _in_type(truth: Any, kind: Any) -> Any:
    """The labels as the predictions are: texts, or numbers."""
    import pyarrow as pa

    if pa.types.is_string(kind):
        return truth
    numbers = [_number(text) for text in truth["truth"].to_pylist()]
    if wrong := numbers.count(None):
        _log.warning("%s labels are no numbers, as the predictions are", wrong)
    column = pa.array(numbers, pa.float64())
    return truth.set_column(truth.column_names.index("truth"), "truth", column).filter(
        column.is_valid()
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def read_labels(
    home: Home,
    model: str,
    environment: str,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Any:
    """The latest label of each (request_id, row) that came in from `since` to before `until`:
    request_id, row, label (a text), time, actor."""
    found = read_rows(label_area(home), model, environment, Filter(since, until))
    return latest(found)


def latest(labels: Any) -> Any:
    """The last row of each (request_id, row); labels: sorted by time."""
    import pyarrow as pa

    numbered = labels.append_column("number", pa.array(range(labels.num_rows), pa.int64()))
    last = numbered.group_by(["request_id", "row"]).aggregate([("number", "max")])
    return labels.take(last["number_max"].sort())


def unmatched_labels(
    home: Home,
    configuration: Configuration,
    model: str,
    environment: str,
    since: datetime | None,
    until: datetime | None,
) -> int:
    """Labels that came in from `since` to before `until` for which the whole log has no answer,
    whoever asked."""
    labels = read_labels(home, model, environment, since, until)
    area = prediction_area(home, configuration.platform.predictions)
    known = read_rows(area, model, environment, Filter(status=200), ["request_id", "row"])
    left = labels.select(["request_id", "row"]).join(
        known, ["request_id", "row"], join_type="left anti"
    )
    return int(left.num_rows)


_ORDER = [("time", "ascending"), ("request_id", "ascending"), ("row", "ascending")]


def read_rows(
    area: Area, model: str, environment: str, which: Filter, columns: Sequence[str] | None = None
) -> Any:
    """Rows of an area as one table, sorted by time."""
    needed = None if columns is None else list(dict.fromkeys([*columns, *_KEYS, *which.columns]))
    parts = [part for part in scan(area, model, environment, which, needed) if part.num_rows]
    empty = schema_of(Header(kind=area.kind, environment=environment, model=model)).empty_table()
    found = united(parts) if parts else _select(empty, needed)
    return _select(found.sort_by(_ORDER), columns)


_KEYS = ("request_id", "row")


def _select(table: Any, columns: Collection[str] | None) -> Any:
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
        for table in _readable(segment, gone):
            yield _select(table if condition is None else table.filter(condition), columns)


def _readable(segment: SegmentFile, gone: Mapping[str, Taken]) -> Iterator[Any]:
    """What is damaged is left out here; compaction moves it to the quarantine and reports it."""
    try:
        if segment.name in gone and segment.taken() == gone[segment.name]:
            return
        for _, table in segment.tables():
            yield table
    except FileNotFoundError:  # compaction has let it go: its rows are in Parquet files
        return
    except SegmentError as error:
        _log.warning("%s: %s", segment.path, error)
