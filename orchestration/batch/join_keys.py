"""What the feature store reads of a row: typed, and complete, or the row is refused."""

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from bentos.model_server.contract import Dtype
from bentos.model_server.fields import RANGES, Field, shown
from orchestration.batch.documents import FeatureJoin
from orchestration.batch.validation import complaints, read_column

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

# What `feature_repo.historical.training_set` calls it.
EVENT_TIMESTAMP = "event_timestamp"
_MOMENT = "expected a moment with a time zone"
_ZONE = r"(Z|[+-][0-9]{2}:?[0-9]{2})$"
# Seconds from 1970 to the first and the last moment that Python and Feast can name.
_FIRST, _LAST = -62_135_596_800, 253_402_300_799
_IN_A_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


class Complaint(NamedTuple):
    """words: why a row is refused; kind: the same without its values, to be counted."""

    words: str
    kind: str


# By row.
Refused = defaultdict[int, list[Complaint]]


def frame_of(join: FeatureJoin, rows: "pa.Table") -> "tuple[pd.DataFrame, Refused]":
    """The entity frame of the rows that can be looked up, by their number; and why others cannot,
    by theirs."""
    import pandas as pd

    refused: Refused = defaultdict(list)
    columns: dict[str, Any] = {}
    for name, dtype in join.looked_up.items():
        cells = rows[name].combine_chunks()
        columns[name] = _values(_field(name, cast(Dtype, dtype)), cells, refused)
    columns[EVENT_TIMESTAMP] = _moments(
        join.timestamp, rows[join.timestamp].combine_chunks(), refused
    )
    frame = pd.DataFrame(columns).drop(index=list(refused))
    return frame.astype({name: _pandas(dtype) for name, dtype in join.looked_up.items()}), refused


def _field(name: str, dtype: Dtype) -> Field:
    low, high = RANGES.get(dtype, (None, None))
    return Field(name, dtype, True, low, high, categories=None, max_length=None)


def _pandas(dtype: str) -> Any:
    return "object" if dtype == "string" else dtype


def _values(field: Field, cells: "pa.Array", refused: Refused) -> Any:
    """As the scorer reads an input; anything where it is refused."""
    import numpy as np
    import pyarrow as pa

    is_text = pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type)
    spelled = is_text and field.dtype != "string"
    if spelled:
        cells = cells.cast(pa.string())
    column = read_column(field, None, cells, parsed=not spelled)
    if column.refused is not None:
        places = np.flatnonzero(column.refused)
        kind = f"{field.name}: expected {field.expected()}"
        found = complaints(field, cells.take(pa.array(places)))
        for row, words in zip(places.tolist(), found, strict=True):
            refused[row].append(Complaint(f"{field.name}: {words}", kind))
    return column.values


def _moments(name: str, cells: "pa.Array", refused: Refused) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    is_stamp = pa.types.is_timestamp(cells.type)
    moments = _nameable(cells) if is_stamp else _read(cells)
    for row in pc.indices_nonzero(pc.is_null(moments)).to_pylist():
        got = "null"
        if cells[row].is_valid:
            got = "one beyond the years 1 to 9999" if is_stamp else shown(cells[row].as_py())
        kind = f"{name}: {_MOMENT}"
        refused[row].append(Complaint(f"{kind}, got {got}", kind))
    return moments.to_pandas()


def _nameable(cells: "pa.Array") -> "pa.Array":
    """Null for what no calendar has; Arrow would compute another moment of some, without a word."""
    import pyarrow as pa
    import pyarrow.compute as pc

    ticks, each = cells.cast(pa.int64()), _IN_A_SECOND[cells.type.unit]
    first, last = max(_FIRST * each, -(2**63)), min((_LAST + 1) * each, 2**63) - 1
    inside = pc.and_(pc.greater_equal(ticks, first), pc.less_equal(ticks, last))
    return pc.if_else(inside, cells, None).cast(pa.timestamp("us", "UTC"), safe=False)


def _read(cells: "pa.Array") -> "pa.Array":
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    trimmed = pc.utf8_trim_whitespace(cells)
    zoned = pc.if_else(pc.match_substring_regex(trimmed, _ZONE), trimmed, None)
    read = pd.to_datetime(zoned.to_pandas(), utc=True, format="ISO8601", errors="coerce")
    return pa.Array.from_pandas(read, type=pa.timestamp("us", "UTC"), safe=False)
