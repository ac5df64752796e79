"""A source's Parquet files, looked at before Feast reads them: it would say too little, or nothing,
of what is wrong with them."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from feast import FeatureView
from feast.types import Bool, Float32, Float64, Int32, Int64, String

_ARROW = {
    Bool: ("bool",),
    Float32: ("float",),
    Float64: ("double",),
    Int32: ("int32",),
    Int64: ("int64",),
    String: ("string", "large_string", "string_view"),
}


class SourceError(ValueError):
    """A source that cannot be read, or is not what its feature view says; one sentence."""


def source_files(view: FeatureView) -> list[Path]:
    """The files of the view's batch source, each with the columns and types that the view has.

    A timestamp needs a time zone: without one Feast takes it as UTC, and a writer's local time
    would come into the past or the future. SourceError.
    """
    source = view.batch_source
    folder = Path(source.path)
    files = sorted(folder.rglob("*.parquet"))
    if not files:
        raise SourceError(f"source {source.name} of {view.name} has no *.parquet file in {folder}")
    for file in files:
        try:
            schema = pq.read_schema(file)
        except (OSError, pa.ArrowException) as error:
            said = str(error).splitlines()[0]
            raise SourceError(f"{file} cannot be read as Parquet: {said}") from error
        for finding in _findings(view, schema):
            raise SourceError(f"{file}: {finding}")
    return files


def _findings(view: FeatureView, schema: pa.Schema) -> Iterator[str]:
    for field in (*view.entity_columns, *view.features):
        known = _ARROW.get(field.dtype, ())
        if field.name not in schema.names:
            yield f"column {field.name} is missing, which {view.name} reads"
        elif str(schema.field(field.name).type) not in known:
            found = schema.field(field.name).type
            yield f"column {field.name} is {found}, and {known[0]} in {view.name}"
    source = view.batch_source
    for name in filter(None, (source.timestamp_field, source.created_timestamp_column)):
        found = schema.field(name).type if name in schema.names else None
        if found is None:
            yield f"column {name} is missing"
        elif not pa.types.is_timestamp(found):
            yield f"column {name} is {found}; write timestamps with a time zone"
        elif found.tz is None:
            yield f"column {name} has no time zone (Feast would take it as UTC); write it with one"
