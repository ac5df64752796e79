"""Reading the prediction log and the labels: what everybody uses."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from bentos.prediction_log.segments import Source
from deploy.home import Home
from deploy.predictions.areas import label_area, prediction_area
from deploy.predictions.scan import ORDER, Filter, read_rows, scan, select
from serving_config.schema import Configuration

CLIENTS: tuple[Source, ...] = ("client",)
# How long before an answer its label may have come in.
_EARLY_LABELS = timedelta(days=1)
_log = logging.getLogger("slipway.predictions")


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
    request_ids: Any = None,
    share: float = 1.0,
) -> Any:
    """A pyarrow Table sorted by time: the columns of the log (docs/predictions.md) of the answers
    from `since` to before `until`; None: without that end.

    columns: those that no version has are left out. Versions with other inputs are united by name.
    sources: whose requests; label: of that version alone; status: those alone; request_ids: a
    pyarrow array, those alone.
    share: of the rows, about; the same ones while the files are the same.
    Raises ValueError for a time without a zone.
    """
    area = prediction_area(home, configuration.platform.predictions)
    which = Filter(since, until, sources, None, status, label, request_ids)
    return read_rows(area, model, environment, which, columns, share)


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
    label: str | None = None,
    labels_since: datetime | None = None,
) -> Any:
    """Of those answers (status 200) the ones whose label is known, with `truth`, the latest label,
    in the type of the prediction, and `labelled_at`, when it came in.

    A label may come before its answer, by a day at most. A label that is no number is left out
    where the prediction is one, and logged. label: answers of that version alone; labels_since:
    labels that came in since then alone.
    """
    wanted = None if columns is None else [*columns, "request_id", "row", "prediction", "time"]
    earliest = labels_since or (since and since - _EARLY_LABELS)
    labels = read_labels(home, model, environment, earliest)
    answers = read_predictions(
        home,
        configuration,
        model,
        environment,
        since,
        until,
        wanted,
        sources=sources,
        status=200,
        label=label,
        # Most answers never get a label: what has none is not even kept in memory.
        request_ids=labels["request_id"].combine_chunks(),
    )
    return select(_joined(answers, labels), None if columns is None else [*columns, *_TRUTH])


_TRUTH = ("truth", "labelled_at")


def _joined(answers: Any, labels: Any) -> Any:
    truth = labels.select(["request_id", "row", "label", "time"])
    truth = truth.rename_columns(["request_id", "row", *_TRUTH])
    truth = _in_type(truth, answers.schema.field("prediction").type)
    joined = answers.join(truth, ["request_id", "row"], join_type="inner")
    return joined.select([*answers.column_names, *_TRUTH]).sort_by(ORDER)


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
    keys = ["request_id", "row"]
    left = read_labels(home, model, environment, since, until).select(keys)
    which = Filter(status=200)
    area = prediction_area(home, configuration.platform.predictions)
    # The whole log may be too large for the memory, and most labels are of its last days.
    parts = scan(area, model, environment, which, [*keys, *which.columns])
    while left.num_rows and (known := next(parts, None)) is not None:
        left = left.join(known.select(keys), keys, join_type="left anti")
    return int(left.num_rows)
