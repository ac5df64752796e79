"""Blocks of a segment as pyarrow tables, and tables of different versions as one."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from itertools import chain
from typing import Any, BinaryIO

import msgspec

from bentos.model_server.answers import label_key
from bentos.model_server.contract import Scalar
from bentos.prediction_log.segments import (
    Block,
    Header,
    LabelBlock,
    SegmentError,
    read_blocks,
    read_label_blocks,
)

FEATURE, PROBABILITY = "feature_", "probability_"
_DAY_MICROSECONDS = 86_400_000_000
_EPOCH = date(1970, 1, 1)
_LAST = (date.max - _EPOCH).days * _DAY_MICROSECONDS
# Blocks are joined until they have so many rows: a table of few rows costs as much as one of many.
_ROWS = 1 << 16


def timestamps() -> Any:
    """Microseconds, UTC."""
    import pyarrow as pa

    return pa.timestamp("us", "UTC")


def arrow_type(dtype: str) -> Any:
    """A contract's dtype in Arrow."""
    import pyarrow as pa

    return pa.bool_() if dtype == "bool" else getattr(pa, dtype)()


def schema_of(header: Header) -> Any:
    """The columns of a segment's rows."""
    import pyarrow as pa

    if header.kind == "labels":
        return pa.schema(
            [
                ("request_id", pa.string()),
                ("row", pa.int32()),
                ("label", pa.string()),
                ("time", timestamps()),
                ("actor", pa.string()),
            ]
        )
    inputs = zip(header.columns, header.dtypes, strict=True)
    return pa.schema(
        [
            ("request_id", pa.string()),
            ("row", pa.int32()),
            ("time", timestamps()),
            ("label", pa.string()),
            ("onnx_sha256", pa.string()),
            ("status", pa.int16()),
            ("latency_ms", pa.float32()),
            ("source", pa.string()),
            *((f"{FEATURE}{name}", arrow_type(dtype)) for name, dtype in inputs),
            ("prediction", pa.float64() if header.regression else pa.string()),
            *((f"{PROBABILITY}{name}", pa.float64()) for name in header.classes),
            ("entities", pa.string()),
            ("lookups", pa.string()),
        ]
    )


def tables(file: BinaryIO, header: Header) -> Iterator[Any]:
    """The rows after the header, some ten thousand at a time; `file.tell()` is then the end of the
    last whole frame that was read. SegmentError, after the rows before it, for one that is whole
    and yet not what the header says."""
    read: Any = read_label_blocks if header.kind == "labels" else read_blocks
    blocks: list[Any] = []
    rows, end, failure = 0, file.tell(), None
    try:
        for block in read(file):
            blocks.append(block)
            end = file.tell()
            rows += len(block.request_id)
            if rows >= _ROWS:
                yield table_of(header, blocks)
                blocks, rows = [], 0
    except msgspec.DecodeError as error:
        failure = SegmentError(f"a block is not to be read: {error}")
    if blocks:
        yield table_of(header, blocks)
    if failure is not None:
        raise failure
    file.seek(end)


def table_of(header: Header, blocks: Sequence[Any]) -> Any:
    """Blocks of one segment; SegmentError where they are not what the header says."""
    import pyarrow as pa

    columns = _label_columns if header.kind == "labels" else _columns
    try:
        schema = schema_of(header)
        arrays = columns(header, blocks)
        made = [
            array if isinstance(array, pa.Array) else pa.array(array, field.type)
            for array, field in zip(arrays, schema, strict=True)
        ]
        return pa.Table.from_arrays(made, schema=schema)
    except (pa.ArrowException, ValueError, TypeError, OverflowError, AttributeError) as error:
        raise SegmentError(f"its rows are not those of its header: {error}") from error


def _columns(header: Header, blocks: Sequence[Block]) -> list[Any]:
    import numpy as np
    import pyarrow as pa

    def joined(name: str) -> list[Any]:
        return _joined([getattr(block, name) for block in blocks])

    def many(name: str, count: int) -> list[list[Any]]:
        parts = [getattr(block, name) for block in blocks]
        if any(len(part) != count for part in parts):
            raise ValueError(f"{name} of a block are not {count} columns")
        return [_joined([part[number] for part in parts]) for number in range(count)]

    request_id, prediction = joined("request_id"), joined("prediction")
    latency = np.array(joined("latency_us"), np.float64) / 1000
    return [
        request_id,
        joined("row"),
        _times(joined("time")),
        pa.repeat(header.label, len(request_id)),
        pa.repeat(header.onnx_sha256, len(request_id)),
        joined("status"),
        pa.array(latency.astype(np.float32)),
        joined("source"),
        *many("features", len(header.columns)),
        prediction if header.regression else _texts(prediction),
        *many("probabilities", len(header.classes)),
        joined("entities"),
        joined("lookups"),
    ]


def _label_columns(_header: Header, blocks: Sequence[LabelBlock]) -> list[Any]:
    return [
        _joined([block.request_id for block in blocks]),
        _joined([block.row for block in blocks]),
        _texts(_joined([block.label for block in blocks])),
        _times(_joined([block.time for block in blocks])),
        _joined([block.actor for block in blocks]),
    ]


def _joined(parts: list[list[Any]]) -> list[Any]:
    return parts[0] if len(parts) == 1 else list(chain.from_iterable(parts))


def _times(microseconds: list[int]) -> Any:
    import numpy as np
    import pyarrow as pa

    values = np.array(microseconds, np.int64)
    if len(values) and not (values.min() >= 0 and values.max() < _LAST):
        raise ValueError("a time is before 1970 or after 9999")
    return pa.array(values).cast(timestamps())


def _texts(labels: list[Scalar]) -> list[str | None]:
    """As JSON keys spell them: what a label of a class is, and what its probability is called."""
    return [
        label if label is None or isinstance(label, str) else label_key(label) for label in labels
    ]


def by_day(table: Any) -> Iterator[tuple[date, Any]]:
    """The rows of each day (UTC), in their order."""
    import numpy as np
    import pyarrow as pa

    if not table.num_rows:
        return
    times = table["time"].cast(pa.int64()).to_numpy()
    days = times // _DAY_MICROSECONDS
    found = np.unique(days)
    for day in found:
        part = table if len(found) == 1 else table.filter(pa.array(days == day))
        yield _EPOCH + timedelta(days=int(day)), part


def microseconds(moment: datetime) -> int:
    """Since the epoch, exactly; ValueError for a moment without a zone."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone")
    since = moment - datetime.fromisoformat("1970-01-01T00:00:00+00:00")
    return since // timedelta(microseconds=1)
