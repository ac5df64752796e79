"""Upstreams and clients for thousands of requests: bare sockets, many requests on a connection."""

import asyncio
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_PIPELINED = 50


@dataclass
class Server:
    """heads, bodies: of each request that it got whole, the head and the body's length."""

    port: int = 0
    heads: list[str] = field(default_factory=list)
    bodies: list[int] = field(default_factory=list)
    transports: list[asyncio.Transport] = field(default_factory=list)


class _Protocol(asyncio.Protocol):
    def __init__(self, answer: bytes | None, keep: bool, server: Server) -> None:
        self._answer, self._keep, self._server = answer, keep, server
        self._data = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.transports.append(transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n") + 4) > 3:
            head = bytes(self._data[:end])
            whole = end + self._body(head)
            if len(self._data) < whole:
                return
            if self._keep:
                self._server.heads.append(head.decode())
                self._server.bodies.append(whole - end)
            del self._data[:whole]
            if self._answer is not None:
                self._transport.write(self._answer)

    def _body(self, head: bytes) -> int:
        """Bytes of the body, with what chunks need; more than there is while it is not whole."""
        if b"transfer-encoding: chunked" not in head:
            length = _LENGTH.search(head)
            return int(length[1]) if length else 0
        there = len(self._data) - len(head)
        return there if self._data.endswith(b"\r\n0\r\n\r\n") else there + 1


@contextmanager
def answering(
    name: str, status: str = "200 OK", *, keep: bool = False, path: Path | None = None
) -> Iterator[Server]:
    """Says its name in X-Model-Version. keep: remember what was asked; path: a UNIX socket."""
    answer = f"HTTP/1.1 {status}\r\nx-model-version: {name}\r\ncontent-length: 0\r\n\r\n".encode()
    with _listening(answer, keep, path) as server:
        yield server


@contextmanager
def hanging(path: Path | None = None) -> Iterator[Server]:
    """Reads, and never answers."""
    with _listening(None, True, path) as server:
        yield server


@contextmanager
def _listening(answer: bytes | None, keep: bool, path: Path | None) -> Iterator[Server]:
    server = Server()
    loop = asyncio.new_event_loop()

    async def start() -> asyncio.Server:
        def protocol() -> _Protocol:
            return _Protocol(answer, keep, server)

        if path is not None:
            return await loop.create_unix_server(protocol, path)
        return await loop.create_server(protocol, "127.0.0.1", 0, backlog=1024)

    async def end() -> None:
        listener.close()
        for transport in server.transports:
            transport.abort()
        await asyncio.sleep(0)  # in which they are closed

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        listener = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
        if path is None:
            server.port = listener.sockets[0].getsockname()[1]
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def request(path: str = "/predict", **headers: str) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    return f"GET {path} HTTP/1.1\r\nhost: x\r\n{''.join(lines)}\r\n".encode()


def ask(port: int, requests: Sequence[bytes]) -> list[str]:
    """Who answered each, on one connection; the status in brackets where it was not 200."""
    answers: list[str] = []
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        for start in range(0, len(requests), _PIPELINED):
            batch = requests[start : start + _PIPELINED]
            connection.sendall(b"".join(batch))
            answers += _answers(connection, len(batch))
    return answers


def _answers(connection: socket.socket, number: int) -> list[str]:
    data = b""
    while data.count(b"\r\n\r\n") < number:
        part = connection.recv(1 << 16)
        assert part, "the connection was closed in the middle"
        data += part
    return [_answered(head) for head in data.decode().split("\r\n\r\n")[:number]]


def _answered(head: str) -> str:
    lines = head.split("\r\n")
    if " 200 " not in lines[0]:
        return f"({lines[0]})"
    (name,) = [line.partition(": ")[2] for line in lines if line.startswith("x-model-version:")]
    return name


def shares(port: int, number: int) -> Counter[str]:
    """Of so many requests on four connections: who answered how many."""
    with ThreadPoolExecutor(4) as pool:
        return Counter(
            name
            for answers in pool.map(lambda _: ask(port, [request()] * (number // 4)), range(4))
            for name in answers
        )


@contextmanager
def load(port: int) -> Iterator[Counter[str]]:
    """Constant load of two clients meanwhile; the counter goes on growing."""
    counted: Counter[str] = Counter()
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            for name in ask(port, [request()] * _PIPELINED):
                counted[name] += 1

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(run) for _ in range(2)]
        try:
            yield counted
        finally:
            over.set()
        for client in running:
            client.result()
