"""Columns of Arrow to what the graph takes, and which of their cells the contract refuses.

The same limits and words as the model server's codec (`fields`), over whole columns. NaN is a
missing value, as in pandas; a JSON request has null for it.
"""

import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bentos.model_server.contract import FLOATS, INTEGERS, TextPreprocessing
from bentos.model_server.fields import Field, shown
from bentos.model_server.session import preprocess
from orchestration.batch.parsing import parse, spoken

if TYPE_CHECKING:
    import pyarrow as pa

Mask = npt.NDArray[np.bool_]


class Column(NamedTuple):
    """values: as `session.feeds` would have them, NaN for what is missing; of refused cells
    anything. refused: None where the contract takes all."""

    values: npt.NDArray[Any]
    refused: Mask | None


def read_column(
    field: Field, steps: TextPreprocessing | None, cells: "pa.Array", *, parsed: bool
) -> Column:
    """One input's column. steps: what happens to its texts; parsed: False for one of a CSV, whose
    cells are texts. `sources.read_part` has looked that texts are UTF-8."""
    unreadable = None
    cells = _plain(cells)
    if field.dtype == "string" or not parsed:
        cells = _strings(cells)
    if field.dtype == "string":
        column = _read_texts(field, steps, cells)
    else:
        if not parsed:
            cells, unreadable = parse(cells, field.dtype)
        read = _read_bools if field.dtype == "bool" else _read_numbers
        column = read(field, cells)
    return Column(column.values, _either(column.refused, unreadable))


def complaints(field: Field, cells: "pa.Array") -> list[str]:
    """Why cells that `read_column` refused are: the model server's words."""
    return [_complaint(field, cell) for cell in _plain(cells).to_pylist()]


def _complaint(field: Field, cell: Any) -> str:
    value = spoken(cell, field.dtype) if isinstance(cell, str) else _as_json(field, cell)
    return field.complaint(value) or f"expected {field.expected()}, got {shown(cell)}"


def _plain(cells: "pa.Array") -> "pa.Array":
    import pyarrow as pa

    return cells.dictionary_decode() if pa.types.is_dictionary(cells.type) else cells


def _as_json(field: Field, cell: Any) -> Any:
    """As a JSON request would have it."""
    if isinstance(cell, Decimal):
        whole = field.dtype in INTEGERS and cell == cell.to_integral_value()
        return int(cell) if whole else float(cell)
    if isinstance(cell, float) and math.isnan(cell):
        return None
    if isinstance(cell, float) and field.dtype in INTEGERS and cell.is_integer():
        return int(cell)
    return cell


def _either(one: Mask | None, other: Mask | None) -> Mask | None:
    if one is None or other is None:
        return other if one is None else one
    return one | other


def _nulls(cells: "pa.Array") -> Mask | None:
    if not cells.null_count:
        return None
    found: Mask = cells.is_null().to_numpy(zero_copy_only=False)
    return found


def _read_numbers(field: Field, cells: "pa.Array") -> Column:
    return _read_floats(field, cells) if field.dtype in FLOATS else _read_integers(field, cells)


def _read_floats(field: Field, cells: "pa.Array") -> Column:
    values = _real(cells)
    if not len(values):
        return Column(values, None)
    low, high = _bounds(field)
    if field.categories is None:
        least, most = (np.minimum, np.maximum) if field.required else (np.fmin, np.fmax)
        # Python compares a float32 with a float64 exactly, NumPy would round the limit.
        if low <= float(least.reduce(values)) and float(most.reduce(values)) <= high:
            return Column(values, None)
    wide = values.astype(np.float64)
    accepted = (wide >= low) & (wide <= high)
    if field.categories is not None:
        accepted &= np.isin(wide, [float(c) for c in _numbers(field) if float(c) == c])
    return Column(values, _refused(field, accepted, np.isnan(wide)))


def _refused(field: Field, accepted: Mask, missing: Mask | None) -> Mask | None:
    if missing is not None:
        accepted = accepted & ~missing if field.required else accepted | missing
    return None if accepted.all() else ~accepted


def _bounds(field: Field) -> tuple[float, float]:
    low, high = field.low, field.high
    return -math.inf if low is None else low, math.inf if high is None else high


def _numbers(field: Field) -> list[int]:
    return [value for value in field.categories or () if not isinstance(value, str)]


def _real(cells: "pa.Array") -> npt.NDArray[Any]:
    """As float64 or, exactly, float32; NaN for null."""
    import pyarrow as pa

    if pa.types.is_decimal(cells.type):  # a text is rounded to the nearest, a decimal is not
        cells = cells.cast(pa.string()).cast(pa.float64())
    elif pa.types.is_null(cells.type) or pa.types.is_float16(cells.type):
        cells = cells.cast(pa.float32())
    values: npt.NDArray[Any] = cells.to_numpy(zero_copy_only=False)
    return values if values.dtype.kind == "f" else values.astype(np.float64)


def _read_integers(field: Field, cells: "pa.Array") -> Column:
    values, missing, whole = _integral(cells)
    low, high = _bounds(field)
    accepted = (values >= low) & (values <= high) & whole
    if field.categories is not None:
        accepted &= np.isin(values, [c for c in _numbers(field) if -(2**63) <= c < 2**63])
    refused = _refused(field, accepted, missing)
    if values.dtype.kind == "u":
        values = values.astype(np.int64)
    if missing is not None and not field.required:
        values = np.where(missing, np.nan, values.astype(np.float64))
    return Column(values, refused)


def _integral(cells: "pa.Array") -> tuple[npt.NDArray[Any], Mask | None, Mask | bool]:
    """The integers, which of them are missing, and which are integers at all (0 where not)."""
    import pyarrow as pa

    if pa.types.is_decimal(cells.type):
        try:
            cells = cells.cast(pa.int64())
        except pa.ArrowInvalid:
            return _integral_decimals(cells)
    if pa.types.is_integer(cells.type):
        return cells.fill_null(0).to_numpy(), _nulls(cells), True
    reals = _real(cells)
    missing = np.isnan(reals)
    # 2.0**63 is the first beyond int64.
    whole = (np.floor(reals) == reals) & (reals >= -(2.0**63)) & (reals < 2.0**63)
    integers = np.where(whole, reals, 0).astype(np.int64)
    return integers, missing if missing.any() else None, whole | missing


def _integral_decimals(cells: "pa.Array") -> tuple[npt.NDArray[Any], Mask | None, Mask | bool]:
    numbers = cells.to_pylist()
    fits = [n is not None and n == n.to_integral_value() and abs(n) < 2**63 for n in numbers]
    integers = [int(n) if ok else 0 for n, ok in zip(numbers, fits, strict=True)]
    missing = _nulls(cells)
    whole = np.array(fits)
    return np.array(integers, np.int64), missing, whole if missing is None else whole | missing


def _read_bools(field: Field, cells: "pa.Array") -> Column:
    import pyarrow as pa

    missing = _nulls(cells)
    values = cells.cast(pa.bool_()).fill_null(False).to_numpy(zero_copy_only=False)
    refused = _refused(field, np.ones(len(values), bool), missing)
    if missing is not None and not field.required:
        values = np.where(missing, np.nan, values.astype(np.float64))
    return Column(values, refused)


def _read_texts(field: Field, steps: TextPreprocessing | None, cells: "pa.Array") -> Column:
    import pyarrow as pa
    import pyarrow.compute as pc

    missing = _nulls(cells)
    accepted = np.ones(len(cells), bool)
    if field.max_length is not None:
        fits = pc.less_equal(pc.utf8_length(cells), field.max_length).fill_null(True)
        accepted &= fits.to_numpy(zero_copy_only=False)
    if field.categories is not None:
        known = pa.array([c for c in field.categories if isinstance(c, str)], cells.type)
        accepted &= pc.is_in(cells, known).to_numpy(zero_copy_only=False)
    refused = _refused(field, accepted, missing)
    if refused is not None:  # nothing is done to what is thrown away
        cells = pc.if_else(pa.array(refused), pa.scalar("", cells.type), cells)
    return Column(_objects(steps, cells, missing), refused)


def _strings(cells: "pa.Array") -> "pa.Array":
    import pyarrow as pa

    return cells if pa.types.is_large_string(cells.type) else cells.cast(pa.string())


def _objects(
    steps: TextPreprocessing | None, cells: "pa.Array", missing: Mask | None
) -> npt.NDArray[Any]:
    """Python's texts, preprocessed, as ONNX Runtime takes them."""
    values: npt.NDArray[Any] = cells.to_numpy(zero_copy_only=False)
    if steps is not None:
        return np.array([preprocess(str(value), steps) for value in values], object)
    return values if missing is None else np.where(missing, np.nan, values)
