"""What logging one answer costs in the process of a model server, without the server around it.

Requests are made, decoded and scored as far as that makes Python objects, with the log and without
in turns of a tenth of a second. So small a number drowns in the noise of two whole servers.
"""

import asyncio
import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import msgspec
from starlette.types import Message

from bentos.model_server.asgi import ArrivingBodies, Request
from bentos.model_server.bundle import Limits, ModelFolder
from bentos.model_server.contract import Input
from bentos.model_server.metrics import Metrics
from bentos.model_server.prediction_log import PredictionLog
from bentos.model_server.session import Scored
from bentos.prediction_log.settings import PredictionLogSettings
from tests.bentos.model_server.models import iris

_REQUESTS, _TURNS = 2048, 60
_SCOPE: dict[str, Any] = {
    "method": "POST",
    "path": "/predict",
    "headers": [(b"host", b"x"), (b"content-type", b"application/json"), (b"x-api-key", b"key")],
    "client": ("127.0.0.1", 1),
}


@dataclass(frozen=True)
class Hook:
    """µs of CPU a request, of all threads; least: in the least disturbed turns."""

    width: int
    median_us: float
    least_us: float


def _folder(width: int) -> ModelFolder:
    parts = iris()
    inputs = tuple(Input(f"f{i}", "float64") for i in range(width))
    contract = msgspec.structs.replace(parts.contract, inputs=inputs, graph_inputs=())
    return ModelFolder(contract, parts.certificate, Limits(), Path("model.onnx"))


def _decoder(names: Sequence[str]) -> msgspec.json.Decoder[Any]:
    row = msgspec.defstruct("Row", [(name, float) for name in names], gc=False, frozen=True)
    return msgspec.json.Decoder(row)


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


async def _turn(
    decoder: msgspec.json.Decoder[Any], body: bytes, log: PredictionLog | None
) -> float:
    bodies = ArrivingBodies()
    started = time.process_time()
    for number in range(_REQUESTS):
        request = Request(_SCOPE, _nothing, bodies)
        request.inputs = [msgspec.structs.astuple(decoder.decode(body))]
        request.scored = Scored([f"label {number % 3}"], [[0.1 + number, 0.2, 0.7]])
        request.size = len(body)
        if log is not None:
            log.add(request, 200)
        if number % 64 == 0:
            await asyncio.sleep(0)
    if log is not None:
        log._writer.flush()
        while log._writer._rows:
            await asyncio.sleep(0.001)
    return (time.process_time() - started) / _REQUESTS * 1e6


async def _measure(width: int, folder: Path) -> Hook:
    model, random = _folder(width), Random(0)  # noqa: S311
    names = [field.name for field in model.contract.inputs]
    decoder, body = _decoder(names), msgspec.json.encode({name: random.random() for name in names})
    log = PredictionLog(PredictionLogSettings(folder), model, Metrics(None))
    gc.collect()
    gc.freeze()  # as a server does
    without, logged = [], []
    for _ in range(_TURNS):
        without.append(await _turn(decoder, body, None))
        logged.append(await _turn(decoder, body, log))
    await log.close()
    return Hook(width, median(logged) - median(without), min(logged) - min(without))


def measure(width: int, folder: Path) -> Hook:
    """For one row of so many floats; folder: where the log goes."""
    return asyncio.run(_measure(width, folder))
