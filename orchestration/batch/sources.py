"""What is to be scored: the files of an input, their schema, and their parts."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import compress
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

from orchestration.batch.arrow_types import arrow_type
from orchestration.batch.documents import ColumnType, Format, Part, Plan, SourceFile
from orchestration.batch.errors import InputError
from orchestration.batch.formats import arrow, csv, parquet
from orchestration.batch.listing import find_files
from orchestration.batch.storage import file_tag, open_location, storage_errors

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["find_files", "make_parts", "read_part", "read_schema"]

_FORMATS: dict[Format, ModuleType] = {"parquet": parquet, "csv": csv, "arrow": arrow}
# Files that are looked at at once: waiting for object storage is most of it.
_AT_ONCE = 4
_NULL = "null"

_T = TypeVar("_T")


def read_schema(format: Format, files: tuple[SourceFile, ...]) -> tuple[ColumnType, ...]:  # noqa: A002
    """Of the first file that has rows. InputError names a file that cannot be read, and one whose
    columns are not the first one's (in any order). Of CSV, every type is `string`.

    Of a file without rows only the names count, and a column of type `null` is one of any type
    without a value: both are what pandas writes where it knows no more.
    """
    found = _each(files, lambda file: _FORMATS[format].schema(file.path))
    columns = [_columns(file, schema) for file, (schema, _) in zip(files, found, strict=True)]
    have_rows = [rows for _, rows in found]
    first = have_rows.index(True) if any(have_rows) else 0
    known: dict[str, str] = {}
    for there in compress(columns, have_rows):
        known = {name: kind for name, kind in there.items() if kind != _NULL} | known
    expected = {name: known.get(name, kind) for name, kind in columns[first].items()}
    for file, there, rows in zip(files, columns, have_rows, strict=True):
        if said := _differences(expected, there, types=rows):
            raise InputError(
                f"{file.path}: its columns are not those of {files[first].path}: {said}; write "
                "all files with the same columns and types"
            )
    return tuple(ColumnType(*column) for column in expected.items())


def _each(files: tuple[SourceFile, ...], read: Callable[[SourceFile], _T]) -> list[_T]:
    with ThreadPoolExecutor(_AT_ONCE, "slipway-batch-inputs") as threads:
        waiting = [threads.submit(read, file) for file in files]
        try:
            return [future.result() for future in waiting]
        finally:
            threads.shutdown(cancel_futures=True)


def _columns(file: SourceFile, schema: "pa.Schema") -> dict[str, str]:
    names = schema.names
    if not names:
        raise InputError(f"{file.path}: there is no column in it")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{file.path}: more than one column is called {twice[0]!r}")
    return {field.name: str(field.type) for field in schema}


def _differences(expected: dict[str, str], found: dict[str, str], types: bool) -> str:
    said = [f"{name!r} is missing" for name in expected if name not in found]
    said += [f"{name!r} is too much" for name in found if name not in expected]
    said += [
        f"{name!r} is {found[name]}, there {expected[name]}"
        for name in expected
        if types and found.get(name, _NULL) not in (expected[name], _NULL)
    ]
    return ", ".join(said[:20])


def make_parts(
    format: Format,  # noqa: A002
    files: tuple[SourceFile, ...],
    part_rows: int,
    begun: Iterable[Plan] = (),
) -> tuple[tuple[SourceFile, ...], tuple[Part, ...]]:
    """The files with their rows, and parts of about `part_rows` rows; empty files have none.

    begun: plans that may be for the same files, whose rows (of CSV) are then not counted again.
    """
    for plan in begun:
        if (plan.format, plan.part_rows, _uncounted(plan.files)) == (format, part_rows, files):
            return plan.files, plan.parts
    found = _each(files, lambda file: _FORMATS[format].pieces(file.path, part_rows))
    pieces = [(number, piece) for number, cut in enumerate(found) for piece in cut]
    return (
        tuple(
            SourceFile(file.path, file.size, file.tag, sum(piece.rows for piece in cut))
            for file, cut in zip(files, found, strict=True)
        ),
        tuple(
            Part(index, number, piece.start, piece.stop, piece.first_row, piece.rows)
            for index, (number, piece) in enumerate(pieces)
        ),
    )


def _uncounted(files: tuple[SourceFile, ...]) -> tuple[SourceFile, ...]:
    return tuple(SourceFile(file.path, file.size, file.tag) for file in files)


def read_part(plan: Plan, part: Part) -> "Iterator[pa.RecordBatch]":
    """Batches of `plan.batch_rows` rows (the last one fewer) with the plan's columns, in its
    order, in bounded memory. InputError where the file cannot be read or was changed since."""
    file = plan.files[part.file]
    read = _FORMATS[plan.format].batches(file.path, part.start, part.stop, plan.batch_rows)
    _require_unchanged(file)
    rows = 0
    with storage_errors(file.path):
        for batch in _cut(read, plan.batch_rows):
            batch.validate(full=True)
            rows += batch.num_rows
            yield _planned(plan, batch)
    _require_unchanged(file)
    if rows != part.rows:
        raise InputError(f"{file.path}: {rows} rows were read where {part.rows} were announced")


def _planned(plan: Plan, batch: "pa.RecordBatch") -> "pa.RecordBatch":
    """With the plan's columns, also those of which this file has no value."""
    import pyarrow as pa

    found = batch.select([column.name for column in plan.schema])
    for place, column in enumerate(plan.schema):
        if pa.types.is_null(found.schema.types[place]) and column.type != _NULL:
            nulls = pa.nulls(len(found), arrow_type(column.type))
            found = found.set_column(place, column.name, nulls)
    return found


def _require_unchanged(file: SourceFile) -> None:
    filesystem, path = open_location(file.path)
    with storage_errors(file.path):
        filesystem.invalidate_cache(path.rpartition("/")[0])
        if file_tag(filesystem, path) != (file.size, file.tag):
            raise InputError(f"{file.path}: changed since the job was planned; start it again")


def _cut(batches: "Iterator[pa.RecordBatch]", rows: int) -> "Iterator[pa.RecordBatch]":
    """The same rows in batches of exactly `rows`, however the file cuts them."""
    import pyarrow as pa

    held: list[pa.RecordBatch] = []
    missing = rows
    for batch in batches:
        start = 0
        while batch.num_rows - start >= missing:
            held.append(batch.slice(start, missing))
            yield held[0] if len(held) == 1 else pa.concat_batches(held)
            start += missing
            held, missing = [], rows
        if start < batch.num_rows:
            held.append(batch.slice(start))
            missing -= batch.num_rows - start
    if held:
        yield pa.concat_batches(held)
