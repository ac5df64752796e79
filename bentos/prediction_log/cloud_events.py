"""Inferences as CloudEvents to a URL, in the form of KServe's inference logger.

Each answered request is two events of CloudEvents' binary mode: `…inference.request` and
`…inference.response`; one of several blocks is two for each of them, whose id ends with the number
of its first row (`<id>:256`). They are made of the masked rows of the log, by a thread of its own.
What does not fit into its queue, or is not taken, is dropped and counted.
"""

import asyncio
import http.client
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, urlsplit

import msgspec

from bentos.prediction_log.masking import PredictionLogError
from bentos.prediction_log.segments import Block

KIND = "org.kubeflow.serving.inference."
MAX_BLOCKS = 64
TIMEOUT_SECONDS = 5.0
_CLOSE_SECONDS = 2.0
_OK = 200
logger = logging.getLogger("slipway.model_server")


class Told(Protocol):
    """Is told, on the event loop, what became of the events."""

    def cloud_events(self, outcome: str, events: int) -> None:
        """outcome: sent, failed or dropped."""


class Names(NamedTuple):
    """Who answers, and what the columns of a block are called; classes: of the probabilities."""

    environment: str
    model: str
    label: str
    columns: tuple[str, ...]
    classes: tuple[str, ...]


class Event(NamedTuple):
    """headers: CloudEvents' attributes; body: JSON."""

    headers: dict[str, str]
    body: bytes


def _percent(text: str) -> str:
    """As CloudEvents' HTTP binding writes attributes: printable ASCII alone."""
    return quote(text, safe="!#$&'()*+,-./:;<=>?@[]^_`{|}~")


def events_of(block: Block, names: Names) -> Iterator[Event]:
    """The request and the response of every answer with a prediction."""
    answered = [i for i, status in enumerate(block.status) if status == _OK]
    rows = list(zip(*block.features, strict=True)) or [()] * len(block.status)
    scores = list(zip(*block.probabilities, strict=True))
    for request_id, group in groupby(answered, key=block.request_id.__getitem__):
        places = list(group)
        first = places[0]
        asked: dict[str, Any] = {
            "instances": [dict(zip(names.columns, rows[i], strict=True)) for i in places]
        }
        if block.entities[first] is not None:
            asked["entities"] = [
                msgspec.Raw((block.entities[i] or "null").encode()) for i in places
            ]
        told: dict[str, Any] = {
            "predictions": [block.prediction[i] for i in places],
            "model": {"name": names.model, "version": names.label},
            "request_id": request_id,
        }
        if scores:
            told["probabilities"] = [
                dict(zip(names.classes, scores[i], strict=True)) for i in places
            ]
        part = f":{block.row[first]}" if block.row[first] else ""
        came = datetime.fromtimestamp(block.time[first] / 1e6, UTC)
        headers = {
            "ce-specversion": "1.0",
            "ce-id": _percent(request_id + part),
            "ce-source": f"/{names.environment}/{names.model}/{names.label}",
            "ce-inferenceservicename": names.model,
            "ce-namespace": names.environment,
            "ce-component": "predictor",
            "ce-endpoint": names.label,
            "ce-requestsource": block.source[first],
            "content-type": "application/json",
        }
        for kind, body, seconds in (
            ("request", asked, 0.0),
            ("response", told, block.latency_us[first] / 1e6),
        ):
            time = datetime.fromtimestamp(came.timestamp() + seconds, UTC)
            own = {"ce-type": KIND + kind, "ce-time": time.isoformat().replace("+00:00", "Z")}
            yield Event(headers | own, msgspec.json.encode(body))


class _Sender:
    """One connection that is kept. No redirect is followed: the data goes to that URL alone."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise PredictionLogError("SLIPWAY_CLOUD_EVENTS_URL is not an http(s) URL")
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=TIMEOUT_SECONDS)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def send(self, event: Event) -> None:
        """OSError or HTTPException where it was not taken."""
        kept = self._connection.sock is not None
        try:
            self._post(event)
        except (http.client.RemoteDisconnected, ConnectionError):
            self._connection.close()
            if not kept:
                raise
            self._post(event)  # the other end had closed it meanwhile

    def _post(self, event: Event) -> None:
        try:
            self._connection.request("POST", self._target, event.body, event.headers)
            response = self._connection.getresponse()
            response.read()
        except BaseException:
            self._connection.close()
            raise
        if not 200 <= response.status < 300:
            raise http.client.HTTPException(f"it answers {response.status}")

    def close(self) -> None:
        self._connection.close()


class CloudEvents:
    """To be made on the event loop; `offer` and `close` are called by the log's thread."""

    def __init__(self, url: str, names: Names, told: Told) -> None:
        self._sender = _Sender(url)
        self._names = names
        self._told = told.cloud_events
        self._loop = asyncio.get_running_loop()
        self._blocks: queue.Queue[Block] = queue.Queue(MAX_BLOCKS)
        self._closing = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="cloud-events", daemon=True)
        self._thread.start()

    def offer(self, block: Block) -> None:
        """Take a block, or drop it; never waits."""
        try:
            self._blocks.put_nowait(block)
        except queue.Full:
            self._tell(self._told, "dropped", 2 * _answers(block))

    def close(self) -> None:
        """What waits is sent, for two seconds at most."""
        self._closing.set()
        self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        while True:
            try:
                block = self._blocks.get(timeout=0.2)
            except queue.Empty:
                if self._closing.is_set():
                    self._sender.close()
                    return
                continue
            self._send(block)

    def _send(self, block: Block) -> None:
        sent = failed = 0
        for event in events_of(block, self._names):
            try:
                self._sender.send(event)
                sent += 1
            except (OSError, http.client.HTTPException) as error:
                failed += 1
                if not self._failing:
                    logger.error("CloudEvents are not taken: %s", error)
                self._failing = True
            else:
                self._failing = False
        self._tell(self._told, "sent", sent)
        self._tell(self._told, "failed", failed)

    def _tell(self, call: Callable[[str, int], None], outcome: str, events: int) -> None:
        with suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(call, outcome, events)


def _answers(block: Block) -> int:
    """The answered requests with a prediction."""
    keys = zip(block.request_id, block.status, strict=True)
    return sum(1 for key, _ in groupby(keys) if key[1] == _OK)
