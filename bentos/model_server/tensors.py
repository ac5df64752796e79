"""Tensors of the Open Inference Protocol: their data, JSON or binary, to Python values and back.

Binary data is little-endian and row-major without padding; BOOL is a byte of 0 or 1; an element of
BYTES follows its length, 4 bytes unsigned. Source: the protocol's binary tensor data extension.
"""

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np

from bentos.model_server.fields import FLOAT32_MAX, shown

BYTES, BOOL = "BYTES", "BOOL"
NUMPY = {
    "BOOL": "?",
    **{f"INT{8 * size}": f"<i{size}" for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": f"<u{size}" for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": f"<f{size}" for size in (2, 4, 8)},
}
FLOATING = frozenset(name for name in NUMPY if name.startswith("FP"))
INTEGRAL = frozenset(name for name in NUMPY if "INT" in name)
FLOAT_LIMITS = {"FP16": 65504.0, "FP32": FLOAT32_MAX}
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
LENGTH = struct.Struct("<I")


class TensorError(ValueError):
    """Data that is not what its tensor states; says what was expected and what came."""


def _element(datatype: str) -> Any:
    """The msgspec type of one element in JSON; null stands for a missing value."""
    if datatype in INTEGRAL:
        limits = np.iinfo(NUMPY[datatype])
        # msgspec's own bounds end at int64; what is left of UINT64 is looked at afterwards.
        most = None if datatype == "UINT64" else int(limits.max)
        return Annotated[int, msgspec.Meta(ge=int(limits.min), le=most)] | None
    if limit := FLOAT_LIMITS.get(datatype):
        return Annotated[float, msgspec.Meta(ge=-limit, le=limit)] | None
    return {BYTES: str, BOOL: bool}.get(datatype, float) | None


FLAT = {
    name: msgspec.json.Decoder(list[_element(name)])  # type: ignore[misc]
    for name in (BYTES, *NUMPY)
}
NESTED = {
    name: msgspec.json.Decoder(list[list[_element(name)]])  # type: ignore[misc]
    for name in (BYTES, *NUMPY)
}


def from_json(data: bytes, datatype: str, shape: Sequence[int]) -> list[Any]:
    """The elements of JSON data, row-major; None for null.

    data: flat, or nested as `shape` says, of rank 1 or 2. FP16 and FP32 are rounded to what they
    can hold, so that JSON and binary data of one tensor are the same. Raises TensorError.
    """
    nested = len(shape) == 2 and data.lstrip()[1:].lstrip().startswith(b"[")
    try:
        values: list[Any] = (NESTED if nested else FLAT)[datatype].decode(data)
    except UNREADABLE as error:
        raise TensorError(f"its data cannot be read as {datatype}: {error}") from None
    if nested:
        if odd := [row for row in values if len(row) != shape[1]]:
            raise TensorError(f"its data has a row of {len(odd[0])}, its shape says {shape[1]}")
        values = [value for row in values for value in row]
    _require_count(len(values), shape)
    if datatype in FLOAT_LIMITS:
        return _rounded(values, datatype)
    if datatype == "UINT64" and any(value is not None and value >= 2**64 for value in values):
        raise TensorError("its data has a number beyond UINT64")
    return values


def _rounded(values: list[float | None], datatype: str) -> list[float | None]:
    rounded: list[float | None] = np.array(values, NUMPY[datatype]).tolist()
    if None not in values:
        return rounded
    return [None if old is None else new for old, new in zip(values, rounded, strict=True)]


def _require_count(count: int, shape: Sequence[int]) -> None:
    expected = math.prod(shape)
    if count != expected:
        raise TensorError(f"shape {list(shape)} takes {expected} elements, its data has {count}")


def from_binary(data: bytes, datatype: str, shape: Sequence[int]) -> list[Any]:
    """The elements of binary data, row-major. Raises TensorError."""
    if datatype == BYTES:
        texts = _texts(data)
        _require_count(len(texts), shape)
        return texts
    count, size = math.prod(shape), np.dtype(NUMPY[datatype]).itemsize
    if len(data) != count * size:
        raise TensorError(
            f"shape {list(shape)} of {datatype} takes {count * size} bytes, got {len(data)}"
        )
    if datatype == BOOL and max(data, default=0) > 1:
        raise TensorError("a BOOL is a byte of 0 or 1")
    values: list[Any] = np.frombuffer(data, NUMPY[datatype]).tolist()
    return values


def _texts(data: bytes) -> list[str]:
    texts: list[str] = []
    offset = 0
    while offset < len(data):
        start = offset + LENGTH.size
        end = start + LENGTH.unpack_from(data, offset)[0] if start <= len(data) else start
        if end > len(data):
            raise TensorError(f"element {len(texts)} of BYTES ends beyond the tensor's data")
        try:
            texts.append(data[start:end].decode("utf-8"))
        except UnicodeDecodeError as error:
            raise TensorError(
                f"element {len(texts)} is not UTF-8: byte {error.start} is wrong"
            ) from None
        offset = end
    return texts


def to_binary(values: Iterable[Any], datatype: str) -> bytes:
    """The elements of a tensor as binary data."""
    if datatype == BYTES:
        encoded = [value.encode() for value in values]
        return b"".join(LENGTH.pack(len(text)) + text for text in encoded)
    return np.array(list(values), NUMPY[datatype]).tobytes()


def datatype_of(value: object) -> str:
    """The datatype that holds a label or a predicted value exactly."""
    match value:
        case bool():
            return BOOL
        case str():
            return BYTES
        case int():
            return "INT64"
        case float():
            return "FP64"
    raise TypeError(f"no datatype holds {shown(value)}")
