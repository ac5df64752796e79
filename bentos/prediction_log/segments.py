"""The format of a segment: an append-only file that a crash can only tear at its tail.

    8 bytes   SLWPSEG1
    frames    length (uint32, little-endian), CRC-32 of the payload (uint32), payload (MessagePack)

The first frame is a `Header`, every other one a `Block` of rows, by column. A frame that is cut
short or whose checksum is wrong ends the segment: what was acknowledged before it is whole.

A segment is called `<name>.open` while its writer has it, under a lock (flock) that the system
lets go of when the process ends, and `<name>.seg` once it is complete. One that is `.open` and not
locked was left by a process that died: it is complete, too.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, Literal

import msgspec

MAGIC = b"SLWPSEG1"
_FRAME = struct.Struct("<II")
# No writer makes a larger frame: a length beyond it is damage, not data.
MAX_FRAME_BYTES = 1 << 28

Kind = Literal["predictions", "labels"]
Source = Literal["client", "mirror", "probe"]


class SegmentError(ValueError):
    """A file that is no segment, or whose header cannot be read."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same for all rows of a segment.

    label: the version as clients name it (`3`, `3-int8`); columns: the contract's inputs, in their
    order, without those that are never logged; dtypes: theirs (`string` for a hashed one); classes:
    those of the probabilities, as JSON keys; started: RFC 3339, UTC.
    """

    kind: Kind
    environment: str
    model: str
    label: str = ""
    onnx_sha256: str = ""
    columns: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    regression: bool = False
    classes: tuple[str, ...] = ()
    started: str = ""


class Block(msgspec.Struct, kw_only=True):
    """Rows by column; every list has one value for each row.

    request_id, row: together the key of a row; row counts from 0 within its request.
    time: microseconds since the epoch, UTC, when the request came in.
    status: the HTTP status; of an answer other than 200 there is one row without features,
    prediction and probabilities.
    latency_us: from the headers to the answer.
    source: who asked: a client, a mirrored copy of a client's request, or the platform's probes.
    features: one list for each column of the header; None where the row has none.
    prediction: the label, or the value of a regression.
    probabilities: one list for each class of the header.
    entities, lookups: JSON texts, None for a request without entities: the join keys, and by
    feature view `{"as_of": RFC 3339 or null, "status": "present" | "unknown" | "stale" | "down"}`.
    """

    request_id: list[str]
    row: list[int]
    time: list[int]
    status: list[int]
    latency_us: list[int]
    source: list[Source]
    features: list[list[Any]]
    prediction: list[Any]
    probabilities: list[list[float | None]]
    entities: list[str | None]
    lookups: list[str | None]


class LabelBlock(msgspec.Struct, kw_only=True):
    """Ground truth, by column. label: as text for a class, a number for a regression; time:
    microseconds since the epoch, when it was taken in; actor: who sent it."""

    request_id: list[str]
    row: list[int]
    label: list[str | int | float | bool]
    time: list[int]
    actor: list[str]


_encoder = msgspec.msgpack.Encoder()
_header = msgspec.msgpack.Decoder(Header)
_block = msgspec.msgpack.Decoder(Block)
_label_block = msgspec.msgpack.Decoder(LabelBlock)


def frame(value: Header | Block | LabelBlock) -> bytes:
    """The bytes of one frame."""
    payload = _encoder.encode(value)
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def _payloads(file: BinaryIO) -> Iterator[bytes]:
    while len(head := file.read(_FRAME.size)) == _FRAME.size:
        length, checksum = _FRAME.unpack(head)
        if length > MAX_FRAME_BYTES:
            return
        payload = file.read(length)
        if len(payload) < length or zlib.crc32(payload) != checksum:
            return
        yield payload


def read_header(file: BinaryIO) -> Header | None:
    """The header of a segment opened at its beginning; None for one that was torn before it was
    written. SegmentError where the file is none."""
    magic = file.read(len(MAGIC))
    if magic != MAGIC:
        if MAGIC.startswith(magic):
            return None
        raise SegmentError(f"{getattr(file, 'name', 'the file')} is no segment of a prediction log")
    payload = next(_payloads(file), None)
    if payload is None:
        return None
    try:
        return _header.decode(payload)
    except msgspec.DecodeError as error:
        raise SegmentError(f"{getattr(file, 'name', 'the segment')}: header: {error}") from error


def read_blocks(file: BinaryIO) -> Iterator[Block]:
    """The whole blocks after the header; a torn tail is left out."""
    for payload in _payloads(file):
        yield _block.decode(payload)


def read_label_blocks(file: BinaryIO) -> Iterator[LabelBlock]:
    """As `read_blocks`, of a segment of labels."""
    for payload in _payloads(file):
        yield _label_block.decode(payload)
