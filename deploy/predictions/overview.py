"""The last answers of a window with counts of all, in little memory however many there are."""

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from bentos.prediction_log.segments import Source
from deploy.home import Home
from deploy.predictions.areas import prediction_area
from deploy.predictions.reader import CLIENTS
from deploy.predictions.scan import Filter, read_rows, scan
from deploy.predictions.tables import timestamps
from serving_config.schema import Configuration


@dataclass
class Overview:
    """last: a pyarrow Table, the newest last; versions, statuses, predictions: rows by value, of
    predictions only those that are classes."""

    last: Any
    rows: int = 0
    requests: int = 0
    versions: Counter[Any] = field(default_factory=Counter)
    statuses: Counter[Any] = field(default_factory=Counter)
    predictions: Counter[Any] = field(default_factory=Counter)


def overview(
    home: Home,
    configuration: Configuration,
    model: str,
    environment: str,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    *,
    sources: tuple[Source, ...] = CLIENTS,
    label: str | None = None,
    status: int | None = None,
) -> Overview:
    """See `reader.read_predictions`; limit: of the last rows."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as kinds

    area = prediction_area(home, configuration.platform.predictions)
    which = Filter(since, until, sources, status=status, label=label)
    found = Overview(None)
    newest = pa.array([], timestamps())
    columns = [*which.columns, "row", "label", "status", "prediction"]
    for table in scan(area, model, environment, which, columns):
        found.rows += table.num_rows
        found.requests += int((table["row"].to_numpy() == 0).sum())  # each has one
        _count(found.versions, table["label"])
        _count(found.statuses, table["status"])
        if kinds.is_string(table.schema.field("prediction").type):
            _count(found.predictions, table["prediction"])
        times = pa.chunked_array([newest, *table["time"].chunks])
        last = pc.select_k_unstable(times, limit, [("time", "descending")])
        newest = times.take(last).combine_chunks()
    begin = newest[-1].as_py() if len(newest) else since
    table = read_rows(area, model, environment, replace(which, since=begin))
    found.last = table.slice(max(0, table.num_rows - limit))
    return found


def _count(counter: Counter[Any], column: Any) -> None:
    for item in column.drop_null().value_counts().to_pylist():
        counter[item["values"]] += item["counts"]
