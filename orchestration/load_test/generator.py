"""Sends a plan's load by a number of clients and records what comes back."""

import asyncio
import gc
import itertools
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic_ns

from orchestration.load_test.connection import Address, Client
from orchestration.load_test.plan import SECOND, Plan
from orchestration.load_test.recorder import Recorder

_SWEEP_SECONDS = 0.1
# A server that refuses connections is not asked in a busy loop.
_REFUSED_PAUSE_SECONDS = 0.1


class Generator:
    """What both loops share.

    requests: sent in turn. begun: how many were sent, the warm-up's included.
    started, ended: by `monotonic_ns`. interrupted: `stop` was called.
    """

    def __init__(
        self, plan: Plan, address: Address, requests: Sequence[bytes], recorder: Recorder
    ) -> None:
        self.recorder = recorder
        self.in_flight = 0
        self.begun = 0
        self.started = 0
        self.ended = 0
        self.interrupted = False
        self._plan = plan
        self._requests = itertools.cycle(requests)
        self._clients = [Client(address, self) for _ in range(plan.connections)]
        self._done = asyncio.Event()

    @property
    def unsent(self) -> int:
        """Requests that were to be counted and are not sent yet; 0 without a schedule."""
        return 0

    @property
    def overdue(self) -> int:
        """Requests that should have been sent by now; 0 without a schedule."""
        return 0

    @property
    def elapsed(self) -> int:
        """Nanoseconds since the start."""
        return monotonic_ns() - self.started

    async def run(self, watch: Callable[["Generator"], None] = lambda _: None) -> None:
        """Until the plan is through or `stop`. watch: called ten times a second."""
        await asyncio.gather(*(self._open(client) for client in self._clients))
        # A full collection over all that is imported takes longer than most answers.
        gc.collect()
        gc.freeze()
        self.started = monotonic_ns()
        self.recorder.start = self.started + self._plan.counted_from
        try:
            self._begin()
            while not self._is_over():
                with suppress(TimeoutError):
                    async with asyncio.timeout(_SWEEP_SECONDS):
                        await self._done.wait()
                self._end_overdue()
                watch(self)
        finally:
            self.ended = monotonic_ns()
            gc.unfreeze()
            self._close()

    async def _open(self, client: Client) -> None:
        # One that cannot be opened now is tried again, and counted, by its first request.
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(self._plan.timeout):
                await client.connect()

    def stop(self) -> None:
        """End now; what is in flight is not counted."""
        self.interrupted = True
        self._done.set()

    def on_answer(self, client: Client, status: int, version: str, size: int) -> None:
        """Of Listener."""
        self.in_flight -= 1
        self.recorder.answered(client.due, monotonic_ns(), status, version, size)
        self._free(client)

    def on_failure(self, client: Client, kind: str, connected: bool) -> None:
        """Of Listener."""
        self.in_flight -= 1
        self.recorder.failed(client.due, monotonic_ns(), kind)
        if connected:
            self._free(client)
        else:
            asyncio.get_running_loop().call_later(_REFUSED_PAUSE_SECONDS, self._free, client)

    def _send(self, client: Client, due: int, now: int) -> None:
        request = next(self._requests)
        self.begun += 1
        self.in_flight += 1
        self.recorder.sent(due, now, len(request))
        client.send(request, due, now)

    def _end_overdue(self) -> None:
        before = monotonic_ns() - round(self._plan.timeout * SECOND)
        for client in self._clients:
            if client.busy and client.sent_at < before:
                client.abort("timeout")

    def _is_over(self) -> bool:
        if self._is_through():
            self._done.set()
        return self._done.is_set()

    def _is_through(self) -> bool:
        return not self._more() and not self.in_flight

    def _begin(self) -> None:
        for client in self._clients:
            self._free(client)

    def _close(self) -> None:
        for client in self._clients:
            client.abort()

    def _more(self) -> bool:
        """Whether requests are still to be sent."""
        raise NotImplementedError

    def _free(self, client: Client) -> None:
        """A client can send."""
        raise NotImplementedError
