"""The prediction log of one model server: which request becomes which record."""

import time
from collections.abc import Sequence
from http import HTTPStatus
from itertools import repeat

from bentos.model_server.answers import label_key, version_header
from bentos.model_server.asgi import COPY, PROBE, Request
from bentos.model_server.bundle import ModelFolder
from bentos.model_server.contract import Contract
from bentos.model_server.keys import PLATFORM
from bentos.model_server.metrics import Metrics
from bentos.prediction_log.cloud_events import CloudEvents, Names
from bentos.prediction_log.masking import Mask, read_key
from bentos.prediction_log.records import Record
from bentos.prediction_log.segment_writer import SegmentWriter
from bentos.prediction_log.segments import Header, Source
from bentos.prediction_log.settings import PredictionLogSettings
from bentos.prediction_log.writer import PredictionWriter

_OK = int(HTTPStatus.OK)


def source_of(request: Request) -> Source:
    """Who asks. Our gateway marks the copies that it sends, and takes that header from clients; a
    probe is the platform's own where there are keys, else anybody's on this machine."""
    headers = request.headers
    if COPY in headers:
        return "mirror"
    if PROBE in headers and request.caller in ("", PLATFORM):
        return "probe"
    return "client"


def classes_of(contract: Contract) -> tuple[str, ...]:
    """The probabilities' classes as JSON keys; none where the model has no probabilities."""
    outputs = contract.outputs
    return tuple(map(label_key, outputs.labels)) if outputs.probabilities is not None else ()


def mask_of(folder: ModelFolder, settings: PredictionLogSettings) -> Mask:
    """Raises PredictionLogError where there is no key for a hashed column."""
    contract, logged = folder.contract, folder.limits.prediction_log
    key = read_key(settings.pii_key) if logged.hashed else None
    inputs = [(field.name, field.dtype) for field in contract.inputs]
    return Mask(inputs, logged.never, logged.hashed, key)


class PredictionLog:
    """What is answered on inference routes goes here. To be made on the event loop."""

    def __init__(
        self, settings: PredictionLogSettings, folder: ModelFolder, metrics: Metrics
    ) -> None:
        contract, mask = folder.contract, mask_of(folder, settings)
        label, classes = version_header(contract), classes_of(contract)

        def header(started: str) -> Header:
            return Header(
                kind="predictions",
                environment=settings.environment,
                model=contract.model,
                label=label,
                onnx_sha256=contract.onnx_sha256,
                columns=mask.columns,
                dtypes=mask.dtypes,
                regression=contract.outputs.kind == "regression",
                classes=classes,
                started=started,
            )

        segments = events = None
        if settings.folder is not None:
            place = settings.folder / "segments" / settings.environment / contract.model / label
            segments = SegmentWriter(
                place, header, settings.segment_bytes, settings.segment_seconds
            )
        if settings.cloud_events_url is not None:
            names = Names(settings.environment, contract.model, label, mask.columns, classes)
            events = CloudEvents(settings.cloud_events_url, names, metrics)
        self._writer = PredictionWriter(
            mask,
            len(classes),
            segments,
            metrics,
            durable=settings.durable,
            flush_seconds=settings.flush_seconds,
            max_pending_rows=settings.max_pending_rows,
            events=events,
        )
        self.durable = self._writer.durable
        self._nothing = (None,) * len(contract.inputs)
        self._no_probabilities = (None,) * len(classes)

    def add(self, request: Request, status: int) -> None:
        """Log an answer as far as that is possible."""
        self._writer.add(self._records(request, status), request.size)

    async def kept(self, request: Request, status: int) -> bool:
        """Whether an answer is on the disk."""
        return await self._writer.kept(self._records(request, status), request.size)

    async def close(self) -> None:
        """At shutdown: what waits is written."""
        await self._writer.close()

    def _records(self, request: Request, status: int) -> Sequence[Record]:
        seconds = time.monotonic() - request.started
        source, scored, rows = source_of(request), request.scored, request.inputs
        if status != _OK or scored is None:
            return (
                (
                    request.id, 0, request.started, seconds, status, source,
                    self._nothing, None, self._no_probabilities, None, None,
                ),
            )  # fmt: skip
        probabilities, entities, lookups = scored.probabilities, request.entities, request.lookups
        if len(rows) == 1:
            return (
                (
                    request.id, 0, request.started, seconds, status, source,
                    rows[0], scored.labels[0],
                    None if probabilities is None else probabilities[0],
                    None if entities is None else entities[0],
                    None if lookups is None else lookups[0],
                ),
            )  # fmt: skip
        none = (None,) * len(rows)
        return list(
            zip(
                repeat(request.id), range(len(rows)), repeat(request.started), repeat(seconds),
                repeat(status), repeat(source), rows, scored.labels, probabilities or none,
                entities or none, lookups or none, strict=False,
            )
        )  # fmt: skip
