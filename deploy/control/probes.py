"""Golden requests to both versions of a canary, for models that have little traffic of their own.

Best effort: what fails is in the counters that the canary is judged by, as any request is.
"""

import asyncio
import itertools
import json
import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import httpx

from deploy.events import Event, Live
from deploy.phases import find, policy_of
from deploy.targets.base import Endpoint
from deploy.traffic import Traffic

logger = logging.getLogger("slipway.controller")
Key = tuple[str, ...]
# In flight at once for one canary: a server that hangs gets no more than these.
_CONCURRENCY = 16
_TIMEOUT_SECONDS = 5.0


class Probes:
    """One thread for each canary that wants probes."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._running: dict[Key, tuple[str, threading.Event]] = {}
        self._threads: list[threading.Thread] = []

    def follow(self, wanted: Mapping[Key, Event]) -> None:
        """Exactly these canaries get golden requests from now on, by their last event."""
        names = {key: event.phase.candidate for key, event in wanted.items() if event.phase}
        for key, (candidate, stop) in list(self._running.items()):
            if names.get(key) != candidate:
                stop.set()
                del self._running[key]
        for key, candidate in names.items():
            if key not in self._running:
                stop = threading.Event()
                self._running[key] = candidate, stop
                thread = threading.Thread(target=self._probe, args=(wanted[key], stop), daemon=True)
                thread.start()
                self._threads = [*filter(threading.Thread.is_alive, self._threads), thread]

    def close(self) -> None:
        """Stop all, and wait a moment for what is in flight."""
        self.follow({})
        for thread in self._threads:
            thread.join(_TIMEOUT_SECONDS)

    def _probe(self, event: Event, stop: threading.Event) -> None:
        try:
            phase = event.phase
            if phase is None or phase.stable is None:
                return
            versions = [find(event.live, label) for label in (phase.candidate, phase.stable.label)]
            lives = [live for live in versions if live is not None]
            endpoints = [
                self._traffic.target.endpoint(event.environment, event.model, live)
                for live in lives
            ]
            rate = policy_of(phase).probe_requests_per_second
            asyncio.run(send(endpoints, self._bodies(lives), rate, stop))
        except Exception as error:
            logger.warning("no golden requests for %s: %s", event.model, error)

    def _bodies(self, lives: Sequence[Live]) -> list[bytes]:
        """The same for both versions: else their predictions could not be compared."""
        rows = [
            row for live in lives for row in self._traffic.releases(live).certificate.golden.rows
        ]
        return [json.dumps({"features": row}).encode() for row in rows]


async def send(
    endpoints: Sequence[Endpoint], bodies: Sequence[bytes], rate: int, stop: threading.Event
) -> None:
    """`rate` requests a second to each endpoint, in turn through the bodies, until stopped.

    What would be more than a few in flight is left out.
    """
    loop, tasks = asyncio.get_running_loop(), set[asyncio.Task[Any]]()
    begun = loop.time()
    async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS) as client:
        for number, body in enumerate(itertools.cycle(bodies)):
            if stop.is_set():
                break
            for endpoint in endpoints:
                if len(tasks) < _CONCURRENCY:
                    task = asyncio.create_task(_ask(client, endpoint, body))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
            await asyncio.sleep(max(0.0, begun + (number + 1) / rate - loop.time()))
        await asyncio.gather(*tasks)


async def _ask(client: httpx.AsyncClient, endpoint: Endpoint, body: bytes) -> None:
    # What is asked is what the server computes, not what it remembers.
    headers = {"content-type": "application/json", "cache-control": "no-cache"}
    with suppress(httpx.HTTPError):  # the gateway has counted it
        await client.post(
            f"{endpoint.url}/predict", content=body, headers=headers | dict(endpoint.headers)
        )
