"""Cells of a CSV, which are texts, to values of the contract's types.

What a cell means never depends on its neighbours: a column that Arrow parses as a whole is only
taken where each of its cells would have been read so by itself.
"""

import re
from typing import TYPE_CHECKING

from bentos.model_server.contract import FLOATS, INTEGERS, Dtype, Scalar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

# As pyarrow's and pandas' CSV readers take them.
MISSING = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
    *("N/A", "NA", "NULL", "NaN", "n/a", "nan", "null"),
)
TRUE = ("1", "True", "TRUE", "true")
FALSE = ("0", "False", "FALSE", "false")
# Python refuses to parse 4,300 digits; float64's largest number has 309.
MAX_DIGITS = 400
_SHORT_INTEGER = r"^[+-]?[0-9]{1,18}$"
_INTEGER = r"^[+-]?[0-9]+$"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


def parse(cells: "pa.Array", dtype: Dtype) -> "tuple[pa.Array, npt.NDArray[np.bool_] | None]":
    """Texts to an Arrow array (float64, int64 or bool; null where missing or unreadable) and which
    cells cannot be read, None if all can."""
    read = _floats if dtype in FLOATS else _integers if dtype in INTEGERS else _bools
    values, unreadable = read(cells)
    return values, None if unreadable is None else unreadable.to_numpy(zero_copy_only=False)


def _present(cells: "pa.Array") -> "pa.Array":
    """Without the blanks around them, and null where they spell a missing value."""
    import pyarrow as pa
    import pyarrow.compute as pc

    trimmed = pc.utf8_trim_whitespace(cells)
    return pc.if_else(pc.is_in(trimmed, pa.array(MISSING)), pa.scalar(None, pa.string()), trimmed)


def _only(cells: "pa.Array", which: "pa.Array") -> "pa.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(which, cells, pa.scalar(None, cells.type))


def _unreadable(cells: "pa.Array", values: "pa.Array") -> "pa.Array | None":
    import pyarrow.compute as pc

    if values.null_count == cells.null_count:
        return None
    return pc.and_(pc.is_valid(cells), pc.is_null(values))


def _floats(cells: "pa.Array") -> "tuple[pa.Array, pa.Array | None]":
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        values = cells.cast(pa.float64())
    except pa.ArrowInvalid:
        pass
    else:  # infinity and the many spellings of NaN are looked at one by one
        if pc.all(pc.is_finite(values)).as_py() is not False:
            return values, None
    present = _present(cells)
    is_number = pc.match_substring_regex(present, _NUMBER)
    values = _only(present, is_number).cast(pa.float64())
    return values, _unreadable(present, values)


def _integers(cells: "pa.Array") -> "tuple[pa.Array, pa.Array | None]":
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        values = cells.cast(pa.int64())
    except pa.ArrowInvalid:
        pass
    else:  # Arrow would read 0x1F as well
        if not pc.any(pc.match_substring(cells, "x", ignore_case=True)).as_py():
            return values, None
    present = _present(cells)
    short = pc.match_substring_regex(present, _SHORT_INTEGER)
    plain = _only(pc.replace_substring_regex(present, r"^\+", ""), short).cast(pa.int64())
    values = pc.coalesce(plain, _whole_numbers(present))
    if (rest := _unreadable(present, values)) is not None:
        found = [_long_integer(text) for text in present.filter(rest).to_pylist()]
        values = pc.replace_with_mask(values, rest, pa.array(found, pa.int64()))
    return values, _unreadable(present, values)


def _whole_numbers(present: "pa.Array") -> "pa.Array":
    """Of `3.0`, as pandas writes integers with gaps; only as far as a float64 has them all."""
    import pyarrow as pa
    import pyarrow.compute as pc

    is_real = pc.and_(
        pc.match_substring_regex(present, _NUMBER),
        pc.invert(pc.match_substring_regex(present, _INTEGER)),
    )
    reals = _only(present, is_real).cast(pa.float64())
    is_whole = pc.and_(pc.equal(pc.floor(reals), reals), pc.less(pc.abs(reals), 2.0**53))
    return _only(reals, is_whole).cast(pa.int64())


def _long_integer(text: str) -> int | None:
    value = spoken(text, "int64") if re.fullmatch(_INTEGER, text) else None
    return value if isinstance(value, int) and -(2**63) <= value < 2**63 else None


def _bools(cells: "pa.Array") -> "tuple[pa.Array, pa.Array | None]":
    import pyarrow as pa
    import pyarrow.compute as pc

    present = _present(cells)
    values = _only(pc.is_in(present, pa.array(TRUE)), pc.is_in(present, pa.array(TRUE + FALSE)))
    return values, _unreadable(present, values)


def spoken(text: str, dtype: Dtype) -> Scalar:
    """What a text stands for, to say why it was refused; itself where it stands for nothing."""
    word = text.strip()
    if dtype == "string":
        return text
    if word in MISSING:
        return None
    if dtype == "bool":
        return text if word not in TRUE + FALSE else word in TRUE
    if re.fullmatch(_INTEGER, word) and len(word) <= MAX_DIGITS:
        return int(word)
    if not re.fullmatch(_NUMBER, word):
        return text
    number = float(word)
    return int(number) if dtype in INTEGERS and number.is_integer() else number
