"""Labels in a table of somebody else's: checked as a whole."""

from typing import Any

from deploy.predictions.labels import Label, faults

MAX_FILE_ROWS = 1_000_000
_SHOWN_FAULTS = 20


class LabelFileError(ValueError):
    """A file of labels that is not taken; the message names the rows and columns."""


def read_label_table(table: Any, *, numbers: bool) -> list[Label]:
    """The labels of a table with the columns request_id, label and, as you like, row.

    numbers: the model predicts values. LabelFileError names what is wrong, and where.
    """
    import pyarrow as pa

    names = table.column_names
    if missing := [name for name in ("request_id", "label") if name not in names]:
        raise LabelFileError(f"column {missing[0]!r} is missing; there is: {', '.join(names)}")
    if unknown := sorted({*names} - {"request_id", "label", "row"}):
        raise LabelFileError(f"column {unknown[0]!r} is none of request_id, label, row")
    if len(set(names)) != len(names):
        raise LabelFileError("a column stands twice")
    if not 0 < table.num_rows <= MAX_FILE_ROWS:
        raise LabelFileError(f"it has {table.num_rows} rows, not 1 to {MAX_FILE_ROWS:,}")
    if (kind := table.schema.field("request_id").type) not in (pa.string(), pa.large_string()):
        raise LabelFileError(f"column 'request_id' is {kind}, not string")
    row = table["row"] if "row" in names else pa.array([0] * table.num_rows)
    if not pa.types.is_integer(row.type):
        raise LabelFileError(f"column 'row' is {row.type}, no integer")
    return _checked(table, row, numbers)


def _checked(table: Any, row: Any, numbers: bool) -> list[Label]:
    columns = {"request_id": table["request_id"], "label": table["label"], "row": row}
    values = {name: column.to_pylist() for name, column in columns.items()}
    for name, found in values.items():
        if None in found:
            raise LabelFileError(f"row {found.index(None)}: {name} is null")
    if not isinstance(values["label"][0], str | int | float | bool):
        raise LabelFileError(f"column 'label' is {table['label'].type}, no text, number or bool")
    labels = [Label(*item) for item in zip(*values.values(), strict=True)]
    if wrong := faults(labels, numbers=numbers):
        shown = "\n".join(f"row {w.index}: {w.field} {w.message}" for w in wrong[:_SHOWN_FAULTS])
        more = f"\nand {len(wrong) - _SHOWN_FAULTS} more" if len(wrong) > _SHOWN_FAULTS else ""
        raise LabelFileError(shown + more)
    return labels
