"""The little of HTTP that the routes need, on plain ASGI: a request, its body, an answer."""

import asyncio
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from starlette.types import Message, Receive, Scope, Send

from bentos.model_server import problems
from bentos.model_server.problems import Problem, body_too_large, unsupported_media_type

# Visible ASCII: a request id is written into logs and headers as it came.
SANE_ID = re.compile(rb"[\x21-\x7e]{1,128}")
BODY_TIMEOUT_SECONDS = 30.0

Header = tuple[bytes, bytes]


class ClientDisconnectedError(Exception):
    """The client left before its request was complete; there is nobody to answer."""


@dataclass(frozen=True)
class Response:
    """An answer. headers: beside content-type, content-length and those of every answer."""

    body: bytes
    content_type: str = "application/json"
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


def request_id_of(headers: Mapping[bytes, bytes]) -> str:
    """The client's X-Request-ID where it is sane, or a new one."""
    given = headers.get(b"x-request-id", b"")
    return given.decode() if SANE_ID.fullmatch(given) else uuid.uuid4().hex


class Request:
    """One HTTP request. started: `time.perf_counter()` when it came in."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        # The first of a repeated header counts.
        self.headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))
        self.id = request_id_of(self.headers)
        self.started = time.perf_counter()
        self._receive = receive

    def require_json(self) -> None:
        """A 415 Problem unless the body is declared as plain JSON in UTF-8.

        Also without a Content-Type: a web page may send such a request anywhere without asking,
        but not one that says application/json.
        """
        given = self.headers.get(b"content-type", b"").decode("latin-1")
        media, _, parameters = given.partition(";")
        media = media.strip().lower()
        if media != "application/json" and not re.fullmatch(r"application/[\w.-]+\+json", media):
            raise unsupported_media_type(
                f"expected Content-Type: application/json, got {given[:80] or 'none'}"
            )
        charset = re.search(r"charset\s*=\s*\"?([\w-]+)", parameters, re.IGNORECASE)
        if charset and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
            raise unsupported_media_type(f"expected JSON in UTF-8, got charset {charset[1][:40]}")
        encoding = self.headers.get(b"content-encoding", b"identity").decode("latin-1")
        if encoding.lower() != "identity":
            raise unsupported_media_type(
                f"expected a body without Content-Encoding, got {encoding[:40]}"
            )

    async def body(self, limit: int) -> bytes:
        """The body, at most `limit` bytes: a 413 Problem as soon as more is declared or came, a
        408 one where it does not arrive in time. Raises ClientDisconnectedError."""
        declared = self.headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > limit:
            raise body_too_large(limit, close=False)
        try:
            async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
                return await self._read(limit)
        except TimeoutError:
            raise problems.timeout(BODY_TIMEOUT_SECONDS) from None

    async def _read(self, limit: int) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnectedError
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise body_too_large(limit, close=True)
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)


Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Route:
    """Handlers by method; GET also answers HEAD."""

    path: str
    methods: Mapping[str, Handler] = field(default_factory=dict)

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


def encode_headers(response: Response, extra: Mapping[str, str]) -> list[Header]:
    """The headers of an answer; content-length is that of the body, also for HEAD."""
    headers = {
        "content-type": response.content_type,
        "content-length": str(len(response.body)),
        **dict(response.headers),
        **extra,
    }
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]


async def send_response(
    send: Send, request: Request, response: Response, extra: Mapping[str, str]
) -> None:
    """Write an answer. extra: headers of every answer of this server."""
    await send(
        {
            "type": "http.response.start",
            "status": response.status,
            "headers": encode_headers(response, extra),
        }
    )
    body = b"" if request.method == "HEAD" else response.body
    await send({"type": "http.response.body", "body": body})


def with_headers(send: Send, extra: Mapping[str, str], seen: Callable[[int], None]) -> Send:
    """A `send` that adds headers to somebody else's answer. seen: told the status."""

    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            seen(message["status"])
            added = [(name.encode(), value.encode("latin-1")) for name, value in extra.items()]
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return wrapped
