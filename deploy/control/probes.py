"""Golden requests in a canary's traffic, for models that have little of their own.

They are split as clients' requests are: of what each version gets, the same part is golden
requests. At one rate for both, a candidate with a small share would get mostly golden rows and the
stable version mostly clients', and a model would differ from itself.

Best effort: what fails is in the counters that the canary is judged by, as any request is.
"""

import json
import logging
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from bentos.model_server.codec import Codec
from bentos.model_server.problems import Problem
from deploy.events import Event
from deploy.gateway.routes import PROBE
from deploy.phases import find, policy_of
from deploy.targets.base import Endpoint
from deploy.traffic import Traffic

logger = logging.getLogger("slipway.controller")
Key = tuple[str, ...]
# In flight at once for one canary: a server that hangs gets no more than these.
_CONCURRENCY = 16
_TIMEOUT_SECONDS = 5.0
_PAUSE_SECONDS = 30.0


@dataclass
class _Running:
    """The golden requests of one canary."""

    candidate: str
    thread: threading.Thread
    stop: threading.Event
    started: float = field(default_factory=time.monotonic)


class Probes:
    """One thread for each canary that wants probes.

    pause_seconds: from the start of one that failed to the next.
    """

    def __init__(self, traffic: Traffic, pause_seconds: float = _PAUSE_SECONDS) -> None:
        self._traffic, self._pause_seconds = traffic, pause_seconds
        self._running: dict[Key, _Running] = {}
        self._stopped: list[threading.Thread] = []

    def follow(self, wanted: Mapping[Key, Event]) -> None:
        """Exactly these canaries get golden requests from now on, by their last event."""
        names = {key: event.phase.candidate for key, event in wanted.items() if event.phase}
        for key, running in list(self._running.items()):
            if names.get(key) != running.candidate or self._has_failed(running):
                running.stop.set()
                self._stopped = [t for t in (*self._stopped, running.thread) if t.is_alive()]
                del self._running[key]
        for key, candidate in names.items():
            if key not in self._running:
                stop = threading.Event()
                thread = threading.Thread(target=self._probe, args=(wanted[key], stop), daemon=True)
                self._running[key] = _Running(candidate, thread, stop)
                thread.start()

    def _has_failed(self, running: _Running) -> bool:
        """A while ago."""
        paused = time.monotonic() - running.started >= self._pause_seconds
        return paused and not running.thread.is_alive()

    def close(self) -> None:
        """Stop all, and wait a moment for what is in flight."""
        self.follow({})
        for thread in self._stopped:
            thread.join(_TIMEOUT_SECONDS)

    def _probe(self, event: Event, stop: threading.Event) -> None:
        try:
            phase = event.phase
            if phase is None:
                return
            bodies = self._bodies(event)
            endpoint = self._traffic.target.endpoint(event.environment, event.model, None)
            send(endpoint, bodies, policy_of(phase).probe_requests_per_second, stop)
        except Exception as error:
            logger.warning("no golden requests for %s: %s", event.model, error)

    def _bodies(self, event: Event) -> list[bytes]:
        """The golden rows of both versions that both take; ValueError where there is none."""
        phase = event.phase
        labels = (phase.candidate, phase.stable.label) if phase and phase.stable else ()
        lives = [live for label in labels if (live := find(event.live, label)) is not None]
        releases = [self._traffic.releases(live) for live in lives]
        rows = [row for release in releases for row in release.certificate.golden.rows]
        codecs = [Codec(release.bundle.contract, max_rows=1) for release in releases]
        bodies = dict.fromkeys(json.dumps({"features": row}).encode() for row in rows)
        taken = [body for body in bodies if all(_takes(codec, body) for codec in codecs)]
        if not taken:
            raise ValueError("both versions take none of their golden rows")
        return taken


def _takes(codec: Codec, body: bytes) -> bool:
    try:
        codec.decode_one(body)
    except Problem:
        return False
    return True


def send(endpoint: Endpoint, bodies: Sequence[bytes], rate: int, stop: threading.Event) -> None:
    """`rate` requests a second, each a body drawn at random, until stopped; fewer where more than
    a few would be in flight."""
    count = min(_CONCURRENCY, rate)
    senders = [
        threading.Thread(
            target=_send, args=(endpoint, bodies, count / rate, number / rate, stop), daemon=True
        )
        for number in range(count)
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()


def _send(
    endpoint: Endpoint, bodies: Sequence[bytes], every: float, first: float, stop: threading.Event
) -> None:
    """One connection, one request in flight. every, first: in seconds."""
    # Measured at 100 a second: 6 % of a core, with httpx 22 %.
    url = urlsplit(endpoint.url)
    connection = HTTPConnection(url.hostname or "", url.port, timeout=_TIMEOUT_SECONDS)
    # What is asked is what the server computes, not what it remembers.
    headers = {"content-type": "application/json", "cache-control": "no-cache"}
    headers |= endpoint.headers
    due = time.monotonic() + first
    while not stop.wait(max(0.0, due - time.monotonic())):
        headers[PROBE] = secrets.token_hex(8)
        try:
            connection.request("POST", f"{url.path}/predict", secrets.choice(bodies), headers)
            connection.getresponse().read()
        except (OSError, HTTPException):  # the gateway has counted it
            connection.close()  # the next request opens it
        due = max(due + every, time.monotonic())
    connection.close()
