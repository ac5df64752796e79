"""Edge rows: zeros, extremes, missing values, unseen categories, odd texts."""

import sys
from collections.abc import Iterator

import numpy as np

from bentos.model_server.contract import FLOATS, Input, Scalar
from orchestration.verification.rows import Space, Values, spread

FLOAT32_MAX = float(np.finfo(np.float32).max)
FLOATS_AT_THE_EDGE = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    5e-324,
    -5e-324,
    sys.float_info.min,
    float(np.float32(1e-45)),
    1e-20,
    1e6,
    -1e6,
    16777217.0,
    1e15,
    -1e15,
    FLOAT32_MAX / 1e8,
    -FLOAT32_MAX / 1e8,
)
INTEGERS_AT_THE_EDGE = (0, 1, -1, 127, 32768, 16777217, 2**31 - 1, -(2**31))
TEXTS = (
    "",
    " ",
    "x",
    "0",
    "_",
    "!?.,;",
    "a\tb\nc\r\nd",
    "ABC abc",
    "Ünïcödé",
    "straße İstanbul ﬁ",
    "中文字 テスト",
    "привет мир",
    "مرحبا",
    "नमस्ते",
    "🎉👍🏽 👩‍👩‍👧",
    "e\u0301 o\u0308",
    "①½²",
    "\u200b\u00a0\ufeff",
    "nan",
    "None",
    "null",
)
LONG_TEXT = 20_000
BASES = 3
_MAX_FIELDS = 60
_MAX_LARGEST = 4


def edge_rows(space: Space) -> list[Values]:
    """One field at its edge at a time in some reference rows, then all fields at once.

    The contract may refuse some of them."""
    rows: list[Values] = []
    bases = list(spread(space.bases, BASES))
    for i, field in list(enumerate(space.contract.inputs))[:_MAX_FIELDS]:
        for base in bases:
            rows.extend(
                [*base[:i], value, *base[i + 1 :]] for value in _edges(space, i, field, base)
            )
    rows.extend(_together(space, bases))
    rows.extend(_largest(space, bases[0]))
    return rows


def _edges(space: Space, i: int, field: Input, base: Values) -> Iterator[Scalar]:
    if not field.required:
        yield None
    if field.dtype == "bool":
        yield from (True, False)
    elif field.categories is not None:
        yield from field.categories[:50]
    elif field.dtype == "string":
        yield from _texts(field, str(base[i] or ""))
    else:
        yield from (v for v in (field.minimum, field.maximum) if v is not None)
        yield from _numbers(field, base[i])


def _numbers(field: Input, value: Scalar) -> Iterator[Scalar]:
    if field.dtype not in FLOATS:
        yield from INTEGERS_AT_THE_EDGE
        return
    yield from FLOATS_AT_THE_EDGE
    if isinstance(value, float | int):
        yield from (-float(value), float(value) * 1e3, float(value) * 1e-3)


def _texts(field: Input, base: str) -> Iterator[str]:
    """Unseen categories as well: none of these is likely to be one."""
    yield from TEXTS
    yield base.upper()
    yield base.swapcase() + " " + TEXTS[8]
    if field.text is not None:
        long = (base + " word ") * (LONG_TEXT // (len(base) + 6) + 1)
        yield long[: field.max_length or LONG_TEXT]


def _largest(space: Space, base: Values) -> Iterator[Values]:
    """The largest float32 in a few fields; models that compute in float32 may refuse it."""
    floats = [i for i in space.numeric if space.contract.inputs[i].dtype in FLOATS]
    for i in floats[:_MAX_LARGEST]:
        for value in (FLOAT32_MAX, -FLOAT32_MAX):
            yield [*base[:i], value, *base[i + 1 :]]


def _together(space: Space, bases: list[Values]) -> Iterator[Values]:
    fields = space.contract.inputs
    for value in (0.0, FLOAT32_MAX / 1e8, -FLOAT32_MAX / 1e8, 1e6, -1e6):
        for base in bases[:1]:
            yield [
                float(value)
                if f.dtype in FLOATS
                else int(min(abs(value), 2**31 - 1))
                if i in space.numeric
                else base[i]
                for i, f in enumerate(fields)
            ]
    for base in bases:
        yield [v if f.required else None for f, v in zip(fields, base, strict=True)]
