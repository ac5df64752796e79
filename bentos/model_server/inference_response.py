"""Predictions as output tensors: `prediction` and, where the model has them, `probabilities`."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from bentos.model_server.asgi import Response
from bentos.model_server.inference_request import HEADER_LENGTH, InferRequest, refused
from bentos.model_server.session import Scored
from bentos.model_server.tensors import to_binary

PREDICTION, PROBABILITIES = "prediction", "probabilities"
# Asked for, these would change what an output is; no other server's answer would look like ours.
UNSUPPORTED = ("classification", "shared_memory_region")


class ResponseOutput(msgspec.Struct, frozen=True, omit_defaults=True):
    """One tensor of an answer: `data`, row-major, or the size of its binary data."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class InferResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """The JSON object of an answer. id: that of the request, if it had one."""

    model_name: str
    model_version: str
    outputs: list[ResponseOutput]
    id: str | None = None


def requested(request: InferRequest, offered: Iterable[str]) -> dict[str, bool]:
    """The outputs to answer with, in the order asked for, and whether each is to be binary.

    Raises a 422 Problem for an output that is not among `offered`.
    """
    default = _flag(request.parameters, "binary_data_output", "parameters", default=False)
    offered = list(offered)
    chosen: dict[str, bool] = {}
    for output in request.outputs or ():
        if output.name not in offered:
            raise refused(output.name, f"is not an output of this model: {', '.join(offered)}")
        for parameter in UNSUPPORTED:
            if parameter in (output.parameters or {}):
                raise refused(output.name, f"this server has no extension for {parameter}")
        chosen[output.name] = _flag(output.parameters, "binary_data", output.name, default=default)
    return chosen or dict.fromkeys(offered, default)


def _flag(parameters: dict[str, Any] | None, name: str, where: str, *, default: bool) -> bool:
    value = (parameters or {}).get(name, default)
    if not isinstance(value, bool):
        raise refused(where, f"{name} must be true or false")
    return value


class OutputTensors:
    """Bound to one model. datatypes: of its outputs by name, in the order they are answered."""

    def __init__(self, model: str, version: str, datatypes: dict[str, str]) -> None:
        self.datatypes = datatypes
        self._model = model
        self._version = version

    def encode(self, scored: Scored, id: str | None, binary: dict[str, bool]) -> Response:  # noqa: A002
        """The answer. binary: the outputs wanted, and whether each is to be binary."""
        outputs: list[ResponseOutput] = []
        parts: list[bytes] = []
        for name, as_binary in binary.items():
            shape, values = _tensor(scored, name)
            datatype = self.datatypes[name]
            if not as_binary:
                outputs.append(ResponseOutput(name, datatype, shape, data=list(values)))
                continue
            parts.append(to_binary(values, datatype))
            size = {"binary_data_size": len(parts[-1])}
            outputs.append(ResponseOutput(name, datatype, shape, size))
        header = msgspec.json.encode(InferResponse(self._model, self._version, outputs, id))
        if not parts:
            return Response(header)
        length = ((HEADER_LENGTH.lower(), str(len(header))),)
        return Response(b"".join([header, *parts]), "application/octet-stream", headers=length)


def _tensor(scored: Scored, name: str) -> tuple[list[int], Iterator[Any]]:
    """Shape and elements, row-major."""
    if name == PREDICTION or scored.probabilities is None:
        return [len(scored.labels)], iter(scored.labels)
    shape = [len(scored.labels), len(scored.probabilities[0])]
    return shape, (value for row in scored.probabilities for value in row)
