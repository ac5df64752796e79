"""The little of HTTP that the routes need, on plain ASGI: a request, its body, an answer."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from random import Random
from typing import TYPE_CHECKING

import msgspec
from starlette.types import Message, Receive, Scope, Send

from bentos.model_server import problems, uvicorn_request
from bentos.model_server.problems import Problem, body_too_large, unsupported_media_type

if TYPE_CHECKING:  # it imports ONNX Runtime, and the control process has this file too
    from bentos.model_server.session import Row, Scored

# Visible ASCII: a request id is written into logs and headers as it came.
SANE_ID = re.compile(rb"[\x21-\x7e]{1,128}")
# The gateway asks for it on requests that it sends to two versions, to compare their answers.
COMPARE = b"x-slipway-compare"
# The platform says so of its own golden requests; see prediction_log.source_of.
PROBE = b"x-slipway-probe"
# The copy of a mirrored request; clients cannot say it: the gateway takes it from them.
COPY = b"x-slipway-copy"
TRACEPARENT = re.compile(rb"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
BODY_TIMEOUT_SECONDS = 30.0
# Of all bodies that are still arriving at one worker: a thousand slow clients must not fill it.
MAX_HELD_BYTES = 256 << 20
# Ids tell requests apart, they guard nothing. Seeded by the system, in each process anew.
_ids = Random()  # noqa: S311

# 204 has neither type nor length: it goes ASGI's way.
STATUS_LINES = {
    int(status): f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
    for status in HTTPStatus
    if status != HTTPStatus.NO_CONTENT
}
Header = tuple[bytes, bytes]


class ClientDisconnectedError(Exception):
    """The client left before its request was complete; there is nobody to answer."""


class Response(msgspec.Struct, frozen=True, gc=False):
    """An answer. headers: beside content-type, content-length and those of every answer."""

    body: bytes
    content_type: str = "application/json"
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


def request_id_of(headers: Mapping[bytes, bytes]) -> str:
    """The client's X-Request-ID where it is sane, or a new one."""
    given = headers.get(b"x-request-id", b"")
    return given.decode() if SANE_ID.fullmatch(given) else f"{_ids.getrandbits(128):032x}"


class ArrivingBodies:
    """What has come of the bodies that come in parts: bounded in bytes, and in time by one look a
    second at all of them, where a timer for each would cost as much as reading it."""

    def __init__(self) -> None:
        self.held = 0  # bytes
        self.waiting: dict[asyncio.Task[object], float] = {}  # since, `time.monotonic()`
        self.overdue: set[asyncio.Task[object]] = set()

    async def watch(self, seconds: float) -> None:
        """For ever; to be run as a task. seconds: between two looks."""
        while True:
            await asyncio.sleep(seconds)
            latest = time.monotonic() - BODY_TIMEOUT_SECONDS
            for task, since in list(self.waiting.items()):
                if since < latest and task not in self.overdue:
                    self.overdue.add(task)
                    task.cancel()


class Request:
    """One HTTP request.

    started: `time.monotonic()` when it came in; client: its IP address, as a proxy on this machine
    may state it; peer: the IP address of the socket's other end; caller: the name of its
    API key, once that is known; rows: of its inference; inputs, scored: these rows and the answers
    to them, once they are known; entities, lookups: by row, JSON texts, see
    `bentos.prediction_log.segments.Block`; size: of its body, in bytes; cache: what the response
    cache had for it, where there is one; uvicorn: see uvicorn_request.
    """

    __slots__ = (
        "_bodies", "_receive", "cache", "caller", "client", "entities", "headers", "id", "inputs",
        "lookups", "method", "path", "peer", "rows", "scored", "size", "started", "uvicorn",
    )  # fmt: skip

    def __init__(self, scope: Scope, receive: Receive, bodies: ArrivingBodies) -> None:
        self.started = time.monotonic()
        self.uvicorn = uvicorn_request.of(receive)
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        # The first of a repeated header counts.
        self.headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))
        self.id = request_id_of(self.headers)
        client = scope.get("client")
        self.client: str | None = client[0] if client else None
        self.peer = self.client if self.uvicorn is None else uvicorn_request.peer(self.uvicorn)
        self.rows = 0
        self.inputs: Sequence[Row] = ()
        self.scored: Scored | None = None
        self.entities: Sequence[str | None] | None = None
        self.lookups: Sequence[str | None] | None = None
        self.size = 0
        self.caller = ""
        self.cache: str | None = None
        self._receive = receive
        self._bodies = bodies

    def gone(self) -> bool:
        """Whether the client has left, as far as uvicorn tells."""
        return self.uvicorn is not None and bool(self.uvicorn.disconnected)

    @property
    def trace_id(self) -> str:
        """The trace id of a W3C `traceparent`, or nothing."""
        found = TRACEPARENT.fullmatch(self.headers.get(b"traceparent", b""))
        return found[1].decode() if found else ""

    def require_json(self) -> None:
        """A 415 Problem unless the body is declared as plain JSON in UTF-8.

        Also without a Content-Type: a web page may send such a request anywhere without asking,
        but not one that says application/json.
        """
        headers = self.headers
        if headers.get(b"content-type") != b"application/json":
            _require_json_type(headers.get(b"content-type", b"").decode("latin-1"))
        if b"content-encoding" in headers:
            self.require_identity()

    def require_identity(self) -> None:
        """A 415 Problem for a compressed body: a small one may unpack to any size."""
        encoding = self.headers.get(b"content-encoding", b"identity").decode("latin-1")
        if encoding.lower() != "identity":
            raise unsupported_media_type(
                f"expected a body without Content-Encoding, got {encoding[:40]}"
            )

    async def body(self, limit: int) -> bytes:
        """The body, at most `limit` bytes: a 413 Problem as soon as more is declared or came, a
        408 one where it does not arrive in time. Raises ClientDisconnectedError."""
        declared = self.headers.get(b"content-length", b"")
        if declared.isdigit() and (len(declared) > 18 or int(declared) > limit):
            raise body_too_large(limit, close=False)
        if self.uvicorn is not None:
            whole = uvicorn_request.whole_body(self.uvicorn)
            if whole is not None:
                if len(whole) > limit:
                    raise body_too_large(limit, close=False)
                self.size = len(whole)
                return whole
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine of asyncio runs in one
        self._bodies.waiting[task] = self.started
        try:
            return await self._read(limit)
        except asyncio.CancelledError:
            if task not in self._bodies.overdue:
                raise
            task.uncancel()
            raise problems.timeout(BODY_TIMEOUT_SECONDS) from None
        finally:
            del self._bodies.waiting[task]
            self._bodies.overdue.discard(task)

    async def _read(self, limit: int) -> bytes:
        chunks: list[bytes] = []
        size = 0
        try:
            while True:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnectedError
                chunk: bytes = message.get("body", b"")
                size += len(chunk)
                self._bodies.held += len(chunk)
                if size > limit:
                    raise body_too_large(limit, close=True)
                if not message.get("more_body", False):
                    self.size = size
                    return b"".join((*chunks, chunk)) if chunks else chunk
                if self._bodies.held > MAX_HELD_BYTES:
                    raise problems.too_many_bodies(self._bodies.held)
                chunks.append(chunk)
        finally:
            self._bodies.held -= size


def _require_json_type(given: str) -> None:
    media, _, parameters = given.partition(";")
    media = media.strip().lower()
    if media != "application/json" and not re.fullmatch(r"application/[\w.-]+\+json", media):
        raise unsupported_media_type(
            f"expected Content-Type: application/json, got {given[:80] or 'none'}"
        )
    charset = re.search(r"charset\s*=\s*\"?([\w-]+)", parameters, re.IGNORECASE)
    if charset and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        raise unsupported_media_type(f"expected JSON in UTF-8, got charset {charset[1][:40]}")


Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Route:
    """Handlers by method; GET also answers HEAD. path: the pattern, as metrics name it.

    inference: needs a key with the scope `predict`, and counts against max_concurrency.
    """

    path: str
    methods: Mapping[str, Handler] = field(default_factory=dict)
    inference: bool = False

    @property
    def allowed(self) -> str:
        """The value of `Allow`."""
        return ", ".join(sorted({*self.methods} | ({"HEAD"} if "GET" in self.methods else set())))

    def handler(self, method: str) -> Handler | None:
        """The handler of a method, if there is one."""
        return self.methods.get("GET" if method == "HEAD" else method)


def problem_response(problem: Problem, request: Request) -> Response:
    """A Problem as an answer."""
    body = problem.encode(request.id, request.path)
    return Response(body, problems.CONTENT_TYPE, int(problem.status), problem.headers)


async def send_response(
    send: Send, request: Request, response: Response, headers: tuple[Header, ...]
) -> None:
    """Write an answer. headers: of every answer of this server.

    The content-length is that of the body, also for HEAD.
    """
    own = response.headers
    names = [name for name, _ in own] if own else ()
    status = STATUS_LINES.get(response.status)
    # What closes the connection goes ASGI's way, which knows how.
    if request.uvicorn is not None and status is not None and "connection" not in names:
        lines = b"".join([b"%b: %b\r\n" % header for header in headers])
        if own:
            lines += "".join([f"{name}: {value}\r\n" for name, value in own]).encode("latin-1")
        head = b"%bcontent-type: %b\r\ncontent-length: %d\r\n%b" % (
            status,
            response.content_type.encode(),
            len(response.body),
            lines,
        )
        body = b"" if request.method == "HEAD" else response.body
        if uvicorn_request.write(request.uvicorn, head, body):
            return
    await _send_by_asgi(send, request, response, headers)


async def _send_by_asgi(
    send: Send, request: Request, response: Response, headers: tuple[Header, ...]
) -> None:
    own = [(name.encode(), value.encode("latin-1")) for name, value in response.headers]
    if response.status != HTTPStatus.NO_CONTENT:  # hence of no type and length
        own.append((b"content-type", response.content_type.encode()))
        own.append((b"content-length", b"%d" % len(response.body)))
    start: Message = {
        "type": "http.response.start",
        "status": response.status,
        "headers": [*own, *headers],
    }
    await send(start)
    body = b"" if request.method == "HEAD" else response.body
    await send({"type": "http.response.body", "body": body})


def with_headers(send: Send, headers: tuple[Header, ...], seen: Callable[[int], None]) -> Send:
    """A `send` that adds headers to somebody else's answer. seen: told the status."""

    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            seen(message["status"])
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        await send(message)

    return wrapped
