"""What every request of the control API passes: its key, a body that is sound, and an answer that
is RFC 9457 whatever goes wrong."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bentos.model_server.asgi import (
    ArrivingBodies,
    ClientDisconnectedError,
    Request,
    problem_response,
    send_response,
    with_headers,
)
from bentos.model_server.keys import Keys
from bentos.model_server.problems import FieldError, Problem, clean, malformed
from deploy.control.browser_key import challenged, is_page, with_basic
from deploy.control.control import refused
from deploy.control.errors import problem_of

MAX_BODY_BYTES = 64 << 10
# 10,000 labels with long request ids.
_MAX_BODY_BYTES_OF = {"/v1/labels": 4 << 20}
_OPEN = ("/v1/health", "/v1/openapi.json", "/v1/docs")


class Gate:
    """ASGI middleware. `scope["slipway.request"]` is the request, with its id and its caller."""

    def __init__(self, app: ASGIApp, keys: Keys, bodies: ArrivingBodies) -> None:
        self._app, self._keys, self._bodies = app, keys, bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive, self._bodies)
        headers = ((b"x-request-id", request.id.encode()), (b"cache-control", b"no-store"))
        statuses: list[int] = []
        scope["slipway.request"] = request
        try:
            body = await self._admit(request, scope)
            answer = with_headers(send, headers, statuses.append)
            await self._app(scope, receive if body is None else _again(body, receive), answer)
        except ClientDisconnectedError:
            return
        except Exception as error:
            if statuses:  # a part of the answer is on its way
                raise
            conditional = b"if-match" in request.headers
            problem = problem_of(error, request.path, conditional=conditional)
            await send_response(send, request, problem_response(problem, request), headers)

    async def _admit(self, request: Request, scope: Scope) -> bytes | None:
        """The body where there is one; a Problem for who may not, or what is not sound."""
        if not any(request.path == path or request.path.startswith(f"{path}/") for path in _OPEN):
            request.caller = self._caller(request)
        _require_single(scope["query_string"])
        if request.method != "POST":  # no other one has a body here
            return None
        request.require_json()
        body = await request.body(_MAX_BODY_BYTES_OF.get(request.path, MAX_BODY_BYTES))
        _require_sound(body)
        return body

    def _caller(self, request: Request) -> str:
        if not is_page(request.method, request.path):
            return self._keys.require(request.headers, None, "admin")
        try:
            return self._keys.require(with_basic(request.headers), None, "admin")
        except Problem as problem:
            raise challenged(problem) from None


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that hands the body over once more."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again


def _require_single(query: bytes) -> None:
    names = [name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True)]
    for name in names:
        if names.count(name) > 1:
            raise refused([FieldError(clean(name, 64), "stands twice in the query")])


def _require_sound(body: bytes) -> None:
    """JSON in which no key stands twice: of two, one would count in silence."""
    try:
        json.loads(body.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise malformed(f"the body is not JSON: {clean(reason, 200)}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise refused([FieldError(clean(twice, 64), "stands twice in the body")])
    return found


@asynccontextmanager
async def watching(keys: Keys, bodies: ArrivingBodies) -> AsyncIterator[None]:
    """Meanwhile new and revoked keys count within a second, and no body takes for ever."""
    tasks = [asyncio.create_task(keys.watch()), asyncio.create_task(bodies.watch(1.0))]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
