"""The closed and the open loop, and running one."""

import asyncio
import signal
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic_ns

from orchestration.load_test.alarm import Alarm
from orchestration.load_test.connection import Address, Client
from orchestration.load_test.generator import Generator
from orchestration.load_test.plan import SECOND, ClosedLoop, OpenLoop, Plan
from orchestration.load_test.recorder import Recorder


class ClosedGenerator(Generator):
    """Each client waits for its answer, and for the plan's delay, before it sends again."""

    def __init__(
        self, plan: ClosedLoop, address: Address, requests: Sequence[bytes], recorder: Recorder
    ) -> None:
        super().__init__(plan, address, requests, recorder)
        self._delay = plan.delay
        self._limit = plan.requests
        self._counted = 0
        self._end = plan.end

    def _more(self) -> bool:
        if self._limit is not None and self._counted >= self._limit:
            return False
        return self._end is None or monotonic_ns() - self.started < self._end

    def _free(self, client: Client) -> None:
        if self._delay and client.sent_at:
            asyncio.get_running_loop().call_later(self._delay, self._next, client)
        else:
            self._next(client)

    def _next(self, client: Client) -> None:
        if self._done.is_set() or not self._more():
            self._is_over()
            return
        now = monotonic_ns()
        self._counted += now >= self.recorder.start
        self._send(client, now, now)


class OpenGenerator(Generator):
    """Requests fall due by the plan's schedule; free clients wait for them, or they for clients.

    Of the requests that wait only the first one's number is kept: the schedule has the rest.
    """

    def __init__(
        self, plan: OpenLoop, address: Address, requests: Sequence[bytes], recorder: Recorder
    ) -> None:
        super().__init__(plan, address, requests, recorder)
        self._schedule = plan
        self._total = plan.total
        # The requests that wait at the end are still sent, for as long as one may take.
        self._patience = plan.end + round(plan.timeout * SECOND)
        self._idle: deque[Client] = deque()
        self._alarm: Alarm | None = None

    @property
    def unsent(self) -> int:
        """Of Generator."""
        return self._total - max(self.begun, self._schedule.first_counted)

    @property
    def overdue(self) -> int:
        """Of Generator."""
        return max(0, self._schedule.due_by(self.elapsed) - self.begun)

    def _begin(self) -> None:
        self._alarm = Alarm(asyncio.get_running_loop(), self._send_due)
        super()._begin()

    def _close(self) -> None:
        super()._close()
        if self._alarm is not None:
            self._alarm.close()

    def _is_through(self) -> bool:
        return self.elapsed >= self._schedule.end and super()._is_through()

    def _more(self) -> bool:
        return self.begun < self._total and monotonic_ns() - self.started < self._patience

    def _free(self, client: Client) -> None:
        self._idle.append(client)
        self._send_due()

    def _send_due(self) -> None:
        while self._idle and not self._done.is_set() and self._more():
            due = self.started + self._schedule.due(self.begun)
            now = monotonic_ns()
            if due > now:
                if self._alarm is not None:
                    self._alarm.set(due)
                return
            self._send(self._idle.popleft(), due, now)


def generator(
    plan: Plan, address: Address, requests: Sequence[bytes], recorder: Recorder
) -> Generator:
    """The generator of a plan. requests: whole HTTP requests, sent in turn."""
    if isinstance(plan, OpenLoop):
        return OpenGenerator(plan, address, requests, recorder)
    if isinstance(plan, ClosedLoop):
        return ClosedGenerator(plan, address, requests, recorder)
    raise TypeError(f"neither an open nor a closed loop: {plan}")


def run(
    plan: Plan,
    address: Address,
    requests: Sequence[bytes],
    watch: Callable[[Generator], None] = lambda _: None,
) -> Generator:
    """Send the load in a loop of its own; Ctrl-C ends it early. Returns it with its records."""
    import uvloop

    async def load() -> Generator:
        loop, mine = asyncio.get_running_loop(), generator(plan, address, requests, Recorder())
        loop.add_signal_handler(signal.SIGINT, mine.stop)
        try:
            await mine.run(watch)
        finally:
            loop.remove_signal_handler(signal.SIGINT)  # uvloop would keep it to itself
        return mine

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(load())
