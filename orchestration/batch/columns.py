"""The columns of an input held against the contract, before a row is read."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from bentos.model_server.answers import label_key
from bentos.model_server.contract import FLOATS, INTEGERS, Contract, Dtype
from bentos.model_server.fields import NOUNS
from orchestration.batch.arrow_types import arrow_type
from orchestration.batch.documents import (
    DIGEST,
    PREDICTION,
    PROBABILITY,
    SCORED_AT,
    VERSION,
    ColumnType,
    FeatureJoin,
    Format,
)
from orchestration.batch.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

MAX_NAMED = 20
_DICTIONARY = re.compile(r"dictionary<values=(.*), indices=\w+, ordered=[01]>")
_INTEGER = re.compile(r"u?int(8|16|32|64)")
_REAL = re.compile(r"(halffloat|float|double|decimal\d+\(.*\))")
_TEXTS = ("string", "large_string", "string_view")


def answer_columns(contract: Contract) -> tuple[str, ...]:
    """What the output adds to the key columns, in its order."""
    outputs = contract.outputs
    labels = outputs.labels if outputs.probabilities is not None else ()
    probabilities = (PROBABILITY + label_key(label) for label in labels)
    return (PREDICTION, *probabilities, VERSION, DIGEST, SCORED_AT)


def check_schema(
    contract: Contract,
    schema: Sequence[ColumnType],
    format: Format,  # noqa: A002
    keys: Sequence[str] | None,
    join: FeatureJoin | None,
) -> tuple[str, ...]:
    """The key columns of the output: those that were named, or all that are no inputs.

    Inputs that `join` provides need not be there, its entities and timestamp must. InputError
    names every column that is missing, stands twice, has a type that cannot hold the input's
    values, or is a key with a name of the output's own (the first 20).
    """
    inputs = {field.name for field in contract.inputs}
    found = tuple(column.name for column in schema if column.name not in inputs)
    kept = found if keys is None else tuple(keys)
    wrong = [
        *(_separated(found) if format == "csv" else ()),
        *_missing(contract, schema, join),
        *_ambiguous(schema),
        *(() if format == "csv" else _mistyped(contract, schema, join)),
        *_clashing(contract, schema, kept),
        *_not_carried(schema),
    ]
    if wrong:
        more = len(wrong) - MAX_NAMED
        named = "; ".join(wrong[:MAX_NAMED]) + (f"; and {more} more" if more > 0 else "")
        raise InputError(f"the input does not fit the contract of {contract.model}: {named}")
    return kept


def _separated(columns: Sequence[str]) -> Iterator[str]:
    if len(columns) == 1 and (found := re.search(r"[;\t|]", columns[0])):
        yield f"its fields are separated by {found.group()!r}, which has to be a comma"


def _spelling(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _missing(
    contract: Contract, schema: Sequence[ColumnType], join: FeatureJoin | None
) -> Iterator[str]:
    there = {column.name for column in schema}
    alike = {_spelling(column.name): column.name for column in schema}
    provided: Collection[str] = () if join is None else join.provided
    for field in contract.inputs:
        meant = alike.get(_spelling(field.name))
        # What may be left out is looked for too: a misspelt one would be null in every row.
        if field.name in there or field.name in provided or not (field.required or meant):
            continue
        hint = f" (is column {meant!r} meant?)" if meant else ""
        yield f"input {field.name} ({NOUNS[field.dtype]}) is missing{hint}"
    for name in () if join is None else (*join.entities, join.timestamp):
        if name not in there:
            yield f"column {name}, by which features are looked up, is missing"


def _ambiguous(schema: Sequence[ColumnType]) -> Iterator[str]:
    for name, times in Counter(column.name for column in schema).items():
        if times > 1:
            yield f"column {name} stands {times} times"


def _mistyped(
    contract: Contract,
    schema: Sequence[ColumnType],
    join: FeatureJoin | None,
) -> Iterator[str]:
    provided: Collection[str] = () if join is None else join.provided
    types = {column.name: column.type for column in schema}
    for field in contract.inputs:
        if field.name in provided or field.name not in types:
            continue
        if not can_hold(types[field.name], field.dtype):
            noun = NOUNS[field.dtype]
            yield f"input {field.name} takes {noun}, its column is {types[field.name]}"


def can_hold(column: str, dtype: Dtype) -> bool:
    """Whether values of the Arrow type of this name can be the input's, all or some of them."""
    dictionary = _DICTIONARY.fullmatch(column)
    if dictionary is not None:
        column = dictionary[1]
    if column == "null":
        return True
    if dtype in FLOATS or dtype in INTEGERS:
        return bool(_INTEGER.fullmatch(column) or _REAL.fullmatch(column))
    return column == "bool" if dtype == "bool" else column in _TEXTS


def _clashing(
    contract: Contract, schema: Sequence[ColumnType], keys: Sequence[str]
) -> Iterator[str]:
    there = {column.name for column in schema}
    added = answer_columns(contract)
    for key, times in Counter(keys).items():
        if times > 1:
            yield f"key {key} is named {times} times"
        if key not in there:
            yield f"key {key} is not a column of the input"
        elif key in added:
            yield f"key {key} has the name of a column of the output: rename it, or name the keys"


def _not_carried(schema: Sequence[ColumnType]) -> Iterator[str]:
    for column in schema:
        try:
            kind = arrow_type(column.type)
        except InputError as error:
            yield f"column {column.name}: {error}"
        else:
            if not _fits_parquet(kind):
                yield f"column {column.name}: Parquet has no {column.type}; drop or cast it"


def _fits_parquet(kind: "pa.DataType") -> bool:
    """Whether the result can have such a column."""
    import pyarrow as pa
    from pyarrow import parquet as pq

    try:
        pq.ParquetWriter(pa.BufferOutputStream(), pa.schema([("column", kind)])).close()
    except (pa.ArrowException, OSError):
        return False
    return True
