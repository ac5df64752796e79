"""The body of an inference request: a JSON object, and behind it the tensors' binary data."""

import math
import re
from typing import Annotated, Any

import msgspec

from bentos.model_server import explain
from bentos.model_server.codec import LARGE_BODY
from bentos.model_server.problems import FieldError, Problem, clean, invalid, malformed
from bentos.model_server.tensors import UNREADABLE

HEADER_LENGTH = "Inference-Header-Content-Length"
Parameters = dict[str, Any] | None
Data = Annotated[
    msgspec.Raw,
    msgspec.Meta(description="Flat and row-major, or nested", extra_json_schema={"type": "array"}),
]
Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class RequestInput(msgspec.Struct, frozen=True):
    """One tensor of a request: `data`, or the parameter `binary_data_size`."""

    name: str
    shape: list[Size]
    datatype: str
    parameters: Parameters = None
    data: Data = msgspec.field(default_factory=msgspec.Raw)

    @property
    def has_json(self) -> bool:
        """Whether the data, here still unread, is in the JSON; null is as good as nothing."""
        return bytes(self.data) not in (b"", b"null")

    @property
    def binary_size(self) -> int | None:
        """`binary_data_size`; a 422 Problem where it is no size."""
        size = (self.parameters or {}).get("binary_data_size")
        if size is None or (type(size) is int and 0 <= size < 2**63):
            return size
        raise refused(self.name, "binary_data_size must be a number of bytes")


class RequestOutput(msgspec.Struct, frozen=True):
    """One output that the client asks for."""

    name: str
    parameters: Parameters = None


class InferRequest(msgspec.Struct, frozen=True):
    """The JSON object; members and parameters that are not of the protocol are ignored."""

    inputs: list[RequestInput]
    id: str | None = None
    parameters: Parameters = None
    outputs: list[RequestOutput] | None = None


DECODER = msgspec.json.Decoder(InferRequest)


def refused(name: str, message: str) -> Problem:
    """422 about one tensor, or another part of the request."""
    return invalid([FieldError(clean(name, 80), message)])


def read_request(body: bytes, header_length: bytes | None) -> tuple[InferRequest, bytes]:
    """The JSON object, and the binary data behind it. header_length: the header, if there is one.

    Raises a Problem: 400 for what is not JSON, 422 otherwise.
    """
    end = len(body)
    if header_length is not None:
        if not re.fullmatch(rb"[0-9]{1,18}", header_length):
            raise refused(HEADER_LENGTH, "must be the number of bytes of the JSON object")
        end = int(header_length)
        if end > len(body):
            raise refused(HEADER_LENGTH, f"is {end}, the body has {len(body)} bytes")
    try:
        return DECODER.decode(body[:end]), body[end:]
    except UNREADABLE as error:
        raise _explained(body[:end], error) from None


def _explained(header: bytes, error: BaseException) -> Problem:
    if len(header) > LARGE_BODY:
        return explain.in_brief(error)
    document = explain.parse(header)
    inputs = document.get("inputs") if isinstance(document, dict) else None
    tensors = inputs if isinstance(inputs, list) else []
    if isinstance(error, msgspec.ValidationError):
        place = re.search(r"\$\.inputs\[(\d+)\]", str(error))
        # A second `inputs` may be the one refused; only the last is here.
        at = tensors[int(place[1]) :][:1] if place else []
        return refused(_name(at[0]) if at else explain.WHOLE_BODY, str(error))
    for tensor in tensors:
        if isinstance(tensor, dict) and _has_no_number(tensor.get("data")):
            message = "JSON has no NaN or infinity; null, or NaN in binary data, is a missing value"
            return refused(_name(tensor), message)
    # Python's own parser reads it: what is left is half a surrogate pair in a text.
    return malformed(f"the JSON object cannot be read, perhaps for a lone surrogate: {error}")


def _name(tensor: object) -> str:
    name = tensor.get("name") if isinstance(tensor, dict) else None
    return name if isinstance(name, str) else "inputs"


def _has_no_number(data: object) -> bool:
    """Whether flat or nested data has NaN or infinity."""
    rows = data if isinstance(data, list) else []
    flat = [value for row in rows for value in (row if isinstance(row, list) else [row])]
    return any(isinstance(value, float) and not math.isfinite(value) for value in flat)
