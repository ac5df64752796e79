"""The generator against real sockets of a server that does as a test wants, in one event loop."""

import asyncio
import signal
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop

from deploy.processes import free_port
from orchestration.load_test.connection import Address
from orchestration.load_test.generator import Generator
from orchestration.load_test.loops import generator, run
from orchestration.load_test.plan import ClosedLoop, OpenLoop, Plan
from orchestration.load_test.recorder import Recorder
from orchestration.load_test.rows import http_request
from orchestration.load_test.summary import Summary, summarise

REQUEST = http_request("/predict", {"host": "test"}, b"{}")
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nX-Model-Version: 7\r\n\r\n{}"
CLOSING = OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
UNTIL_EOF = b"HTTP/1.1 200 OK\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"
EARLY = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + OK
SHED = b"HTTP/1.1 503 Busy\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n"
TOO_MANY = SHED.replace(b"503", b"429")
BROKEN = b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n"
HANG, RESET = b"hang", b"reset"


@dataclass
class Server:
    """Answers request number n, from 0, by `answer(n)`; b"" closes without an answer."""

    answer: Callable[[int], Awaitable[bytes]]
    close_after: bool = False
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                request = await reader.readexactly(len(REQUEST))
                self.requests.append(request)
                answer = await self.answer(len(self.requests) - 1)
                if answer == HANG:
                    await reader.read()
                if answer == RESET:  # lingering for 0 s is a RST
                    linger = struct.pack("ii", 1, 0)
                    sock = writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                if answer in (HANG, RESET, b""):
                    return
                writer.write(answer)
                await writer.drain()
                if self.close_after:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def always(answer: bytes) -> Callable[[int], Awaitable[bytes]]:
    async def give(number: int) -> bytes:
        return answer

    return give


def load(
    server: Server,
    plan: Plan,
    watch: Callable[[Generator], None] = lambda _: None,
    request: bytes = REQUEST,
) -> Summary:
    async def both() -> Summary:
        listening = await asyncio.start_server(server.handle, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        async with listening:
            mine = generator(plan, Address("127.0.0.1", port), [request], Recorder())
            await asyncio.wait_for(mine.run(watch), 60)
        return summarise(mine)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(both())


def closed(requests: int = 50, **settings: Any) -> ClosedLoop:
    usual = {"connections": 4, "warm_up": 0.0, "duration": None}
    return ClosedLoop(requests=requests, **(usual | settings))


def test_a_closed_loop_sends_exactly_so_many_on_connections_that_stay_open() -> None:
    server = Server(always(OK))
    found = load(server, closed(1000))
    assert (found.requests, len(server.requests), server.connections) == (1000, 1000, 4)
    assert (found.failed, found.statuses, found.versions) == (0, {200: 1000}, {"7": 1000})
    assert found.bytes_sent == 1000 * len(REQUEST)
    assert found.bytes_received == 1000 * len(OK)
    assert server.requests[0] == REQUEST


def test_the_warm_up_is_sent_and_not_counted() -> None:
    server = Server(always(OK))
    found = load(server, closed(20, warm_up=0.05))
    assert found.requests == 20
    assert len(server.requests) > 20


def test_a_duration_ends_a_closed_loop() -> None:
    server = Server(always(OK))
    found = load(server, closed(10**9, duration=0.3))
    assert found.requests == len(server.requests) > 0
    assert 0.3 <= found.seconds < 5


@pytest.mark.parametrize("answer", [CHUNKED, EARLY, CLOSING])
def test_any_whole_answer_counts(answer: bytes) -> None:
    found = load(Server(always(answer), close_after=answer == CLOSING), closed())
    assert (found.requests, found.failed, found.errors) == (50, 0, {})
    assert found.bytes_received == 50 * len(answer)


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    server = Server(always(UNTIL_EOF), close_after=True)
    found = load(server, closed())
    assert (found.statuses, found.errors, server.connections) == ({200: 50}, {}, 50)


def test_a_connection_that_the_server_closed_while_it_was_idle_is_opened_again() -> None:
    server = Server(always(OK), close_after=True)
    found = load(server, closed(10, delay=0.05))
    assert (found.requests, found.failed, server.connections) == (10, 0, 10)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (RESET, "connection reset"),
        (b"", "connection closed"),
        (HANG, "timeout"),
        (b"SSH-2.0-OpenSSH\r\n", "not HTTP"),
        (OK[:-1], "connection closed"),
    ],
)
def test_each_failure_is_counted_by_its_kind_and_the_load_goes_on(answer: bytes, kind: str) -> None:
    async def every_second(number: int) -> bytes:
        return CLOSING if number % 2 else answer

    server = Server(every_second, close_after=True)
    found = load(server, closed(4, connections=1, timeout=0.5))
    assert (found.requests, found.failed) == (4, 2)
    assert (found.statuses, found.errors) == ({200: 2}, {kind: 2})


def test_refused_connections_are_counted_and_not_tried_in_a_busy_loop() -> None:
    async def refused() -> Summary:
        address = Address("127.0.0.1", free_port())
        mine = generator(closed(6, connections=2), address, [REQUEST], Recorder())
        await mine.run()
        return summarise(mine)

    found = asyncio.run(refused())
    assert (found.requests, found.errors) == (6, {"connection refused": 6})
    assert found.seconds >= 0.2  # three tries of each client, 0.1 s between them


def test_ctrl_c_works_as_ever_after_a_load() -> None:
    before = signal.getsignal(signal.SIGINT)
    run(closed(1, connections=1), Address("127.0.0.1", free_port()), [REQUEST])
    assert signal.getsignal(signal.SIGINT) is before


def test_shed_answers_are_failures_of_their_own() -> None:
    async def some(number: int) -> bytes:
        return (OK, SHED, TOO_MANY, BROKEN)[number % 4]

    found = load(Server(some), closed(40))
    assert found.statuses == {200: 10, 429: 10, 500: 10, 503: 10}
    assert (found.shed, found.failed) == (20, 30)
    said = found.failure()
    assert said == "30 of 40 requests failed: 10 x 429, 10 x 500, 10 x 503"


def test_an_open_loop_sends_exactly_the_schedule_and_takes_its_time() -> None:
    server = Server(always(OK))
    found = load(server, OpenLoop(rate=400, duration=0.5, warm_up=0.1, connections=8))
    assert (found.requests, len(server.requests), found.failed) == (200, 240, 0)
    assert 0.5 <= found.seconds < 5


def test_latency_counts_from_the_planned_time_while_the_server_stalls() -> None:
    """Requests fall due each millisecond; the server answers none until 50 are overdue."""
    released = asyncio.Event()

    async def stall_once(number: int) -> bytes:
        await released.wait()
        return OK

    def release(mine: Generator) -> None:
        if mine.overdue >= 50:
            released.set()

    plan = OpenLoop(rate=1000, requests=60, duration=None, warm_up=0, connections=1)
    found = load(Server(stall_once), plan, release)
    assert (found.requests, found.failed) == (60, 0)
    # Request n waited 50 - n ms at least, although each was answered at once when it was sent.
    assert found.latency_ms["p50"] >= 20 * 0.99
    assert found.latency_ms["max"] >= 50
    assert found.waited_ms["p50"] >= 20 * 0.99


def test_a_closed_loop_does_not_see_the_stall_that_an_open_one_sees() -> None:
    released = asyncio.Event()

    async def stall_once(number: int) -> bytes:
        await released.wait()
        return OK

    def release(mine: Generator) -> None:
        if mine.elapsed > 50_000_000:
            released.set()

    found = load(Server(stall_once), closed(60, connections=1), release)
    assert found.latency_ms["max"] >= 50
    assert found.latency_ms["p50"] < found.latency_ms["max"] / 2


def test_what_is_never_sent_has_failed() -> None:
    plan = OpenLoop(rate=1000, duration=0.05, warm_up=0, connections=2, timeout=0.2)
    found = load(Server(always(HANG)), plan)
    assert found.requests + found.unsent == 50
    assert found.unsent > 0
    assert found.failed == 50
    assert f"{found.unsent} never sent, because all connections were busy" in found.failure()


def test_stopping_counts_what_was_finished() -> None:
    async def then_hang(number: int) -> bytes:
        return OK if number < 10 else HANG

    def stop(mine: Generator) -> None:
        if mine.recorder.finished == 10:
            mine.stop()

    for plan in (closed(1000, connections=2), OpenLoop(rate=500, duration=60, warm_up=0)):
        found = load(Server(then_hang), plan, stop)
        assert (found.interrupted, found.requests, found.failed) == (True, 10, 0)
