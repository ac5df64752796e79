"""Tables of versions with other columns as one."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from deploy.predictions.tables import FEATURE, PROBABILITY


def united(parts: Sequence[Any]) -> Any:
    """Tables of several versions as one, by column name; what a version does not have is null.

    Of two types the one counts that holds both; a number and a text become texts.
    """
    import pyarrow as pa

    fields: dict[str, Any] = {}
    for field in chain.from_iterable(part.schema for part in parts):
        known = fields.setdefault(field.name, field.type)
        if known != field.type:
            fields[field.name] = _common(known, field.type)
    names = list(fields)
    if any(part.column_names != names for part in parts):
        names.sort(key=lambda name: (_place(name), name))
    schema = pa.schema([(name, fields[name]) for name in names])
    return pa.concat_tables([_as(part, schema) for part in parts])


def _common(left: Any, right: Any) -> Any:
    import pyarrow as pa

    kinds = {pa.types.is_string(kind) for kind in (left, right)}
    if True in kinds:
        return pa.string()
    integers = all(pa.types.is_integer(kind) or pa.types.is_boolean(kind) for kind in (left, right))
    return pa.int64() if integers else pa.float64()


def _as(table: Any, schema: Any) -> Any:
    import pyarrow as pa

    if table.schema.equals(schema):
        return table
    columns = [
        table[field.name].cast(field.type, safe=False)  # float64 rounds integers beyond 2**53
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _place(name: str) -> int:
    """As in a single version's table: inputs before the prediction."""
    heads = ("request_id", "row", "time", "label", "onnx_sha256", "status", "latency_ms", "source")
    if name in heads:
        return heads.index(name)
    if name.startswith(FEATURE):
        return len(heads)
    if name.startswith(PROBABILITY):
        return len(heads) + 2
    return len(heads) + (1 if name == "prediction" else 3)
