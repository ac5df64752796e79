"""The ASGI application that stands in front of BentoML's own.

Our routes are answered here, without BentoML's middleware; its probes are passed on to it, and
its start-up and shut-down run inside ours.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from bentos.model_server import problems
from bentos.model_server.asgi import (
    ClientDisconnectedError,
    Request,
    Response,
    problem_response,
    send_response,
    with_headers,
)
from bentos.model_server.docs import DocsRoutes
from bentos.model_server.info import InfoRoutes
from bentos.model_server.lifecycle import Lifecycle
from bentos.model_server.predict import PredictRoutes
from bentos.model_server.problems import Problem

BENTOML_PATHS = ("/livez", "/healthz")
CLIENT_CLOSED_REQUEST = 499
logger = logging.getLogger("slipway.model_server")


class ModelServer:
    """behind: BentoML's application (or None in a test), for its probes and its lifespan."""

    def __init__(self, lifecycle: Lifecycle, behind: Starlette | None = None) -> None:
        self.lifecycle = lifecycle
        self._behind = behind
        parts = (PredictRoutes(lifecycle), InfoRoutes(lifecycle), DocsRoutes(lifecycle))
        self._routes = {route.path: route for part in parts for route in part.routes()}
        self._lifespan = Router(lifespan=self._run)

    @asynccontextmanager
    async def _run(self, _: object) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if self._behind is not None:
                context = self._behind.router.lifespan_context(self._behind)
                await stack.enter_async_context(context)
            await self.lifecycle.start()
            stack.push_async_callback(self.lifecycle.stop)
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP request, or the server's lifespan."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        elif self._behind is not None and scope["path"] in BENTOML_PATHS:
            await self._pass_on(self._behind, scope, receive, send)
        else:
            await self._answer(scope, receive, send)

    async def _pass_on(self, behind: Starlette, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        seen = with_headers(send, self._headers(request), lambda s: self._count(request, s))
        await behind(scope, receive, seen)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except ClientDisconnectedError:
            self._count(request, CLIENT_CLOSED_REQUEST)
            return
        self._count(request, response.status)
        await send_response(send, request, response, self._headers(request))

    async def _respond(self, request: Request) -> Response:
        try:
            route = self._routes.get(request.path)
            if route is None:
                raise problems.not_found(request.path)
            handler = route.handler(request.method)
            if handler is None:
                raise problems.method_not_allowed(request.method, route.path, route.allowed)
            return await handler(request)
        except Problem as problem:
            return problem_response(problem, request)
        except (ClientDisconnectedError, asyncio.CancelledError):
            raise
        except Exception:
            logger.exception("Request %s to %s failed", request.id, request.path)
            return problem_response(problems.internal_error(), request)

    def _count(self, request: Request, status: int) -> None:
        # An unknown path is the client's to choose: as a label it would grow without bound.
        known = request.path in self._routes or request.path in BENTOML_PATHS
        seconds = time.perf_counter() - request.started
        self.lifecycle.metrics.answered(request.path if known else "other", status, seconds)

    def _headers(self, request: Request) -> dict[str, str]:
        headers = {"x-request-id": request.id}
        if self.lifecycle.version_header is not None:
            headers["x-model-version"] = self.lifecycle.version_header
        if self.lifecycle.draining:
            headers["connection"] = "close"
        return headers
