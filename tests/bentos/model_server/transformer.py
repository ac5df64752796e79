"""A feature transformer on a real socket, that does as a test says: answer, refuse, misbehave."""

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

AS_OF = "2026-11-20T10:00:00Z"


@dataclass
class Call:
    """One POST as it came."""

    path: str
    headers: dict[str, str]
    body: Any


Behaviour = Callable[[Call], Awaitable[bytes | None]]


def http(status: int, document: object, *headers: str) -> bytes:
    """A whole answer; Retry-After and the like in headers."""
    body = json.dumps(document).encode()
    lines = [f"HTTP/1.1 {status} Whatever", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def features_of(customer: int) -> dict[str, Any]:
    """The sum, which the model answers, tells every customer from all others."""
    return {"age": 1, "income": customer + 0.5, "visits": 2, "member": False}


def prediction_of(customer: int) -> float:
    return customer + 3.5


def columns(call: Call) -> dict[str, Any]:
    """What a healthy transformer answers."""
    customers = [row["customer_id"] for row in call.body["entities"]]
    features = [features_of(customer) for customer in customers]
    view = {"as_of": [AS_OF] * len(customers), "status": ["present"] * len(customers)}
    return {
        "features": {name: [row[name] for row in features] for name in features_of(0)},
        "views": {"customer_activity": view},
        "defaulted": [],
    }


async def healthy(call: Call) -> bytes:
    return http(200, columns(call))


def refusing(*unknown: int) -> Behaviour:
    """422 for these customers, as the transformer words it: at most 20 errors."""

    async def behave(call: Call) -> bytes:
        customers = [row["customer_id"] for row in call.body["entities"]]
        errors = [
            {"field": f"entities[{i}].customer_id", "message": f"unknown: {customer}", "row": i}
            for i, customer in enumerate(customers)
            if customer in unknown
        ]
        if errors:
            return http(422, {"detail": errors[0]["message"], "errors": errors[:20]})
        return await healthy(call)

    return behave


def raw(data: bytes | None) -> Behaviour:
    """These bytes (None: nothing), then the connection is closed."""

    async def behave(call: Call) -> bytes | None:
        raise ClosingError(data)

    return behave


def always(status: int, document: object, *headers: str) -> Behaviour:
    async def behave(call: Call) -> bytes:
        return http(status, document, *headers)

    return behave


class ClosingError(Exception):
    """Write what is in it and close the connection."""


@dataclass
class Transformer:
    """behave: what is done with a call; calls, connections: what came."""

    behave: Behaviour = healthy
    calls: list[Call] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set["asyncio.Task[Any]"] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def customers(self) -> list[list[int]]:
        return [[row["customer_id"] for row in call.body["entities"]] for call in self.calls]

    async def start(self) -> None:
        """Listen; again on the same port after a stop."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        self._server = await asyncio.start_server(self._connection, sock=listener)

    async def stop(self) -> None:
        """Close the port and all connections."""
        assert self._server is not None
        self._server.close()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while True:
                call = await self._call(reader)
                writer.write(await self.behave(call) or b"")
        except ClosingError as closing:
            writer.write(closing.args[0] or b"")
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _call(self, reader: asyncio.StreamReader) -> Call:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        body = await reader.readexactly(int(headers["content-length"]))
        call = Call(first.split(" ")[1], headers, json.loads(body))
        self.calls.append(call)
        return call


@dataclass
class InThread:
    """A transformer on a loop of its own."""

    transformer: Transformer
    loop: asyncio.AbstractEventLoop

    def run(self, awaitable: Any) -> None:
        asyncio.run_coroutine_threadsafe(awaitable, self.loop).result(10)

    def start(self) -> None:
        self.run(self.transformer.start())

    def stop(self) -> None:
        self.run(self.transformer.stop())


@contextmanager
def transforming() -> Iterator[InThread]:
    """A healthy transformer beside a test that is no coroutine."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    held = InThread(Transformer(), loop)
    try:
        held.start()
        yield held
        held.stop()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
