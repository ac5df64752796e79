"""The ASGI application that stands in front of BentoML's own.

Our routes are answered here, without BentoML's middleware; its probes are passed on to it, and
its start-up and shut-down run inside ours.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from starlette.applications import Starlette
from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from bentos.model_server import problems
from bentos.model_server.access_log import AccessLog, Clock, Line
from bentos.model_server.asgi import (
    COMPARE,
    ArrivingBodies,
    ClientDisconnectedError,
    Header,
    Request,
    Response,
    Route,
    problem_response,
    send_response,
    with_headers,
)
from bentos.model_server.cors import Cors
from bentos.model_server.keys import Keys
from bentos.model_server.openapi_parts import Schema
from bentos.model_server.problems import Problem

if TYPE_CHECKING:  # it imports ONNX Runtime, which the feature transformer does without
    from bentos.model_server.lifecycle import Lifecycle

BENTOML = Route("/livez")
BENTOML_PATHS = ("/livez", "/healthz")
# What metrics call a path that is not ours: the client chooses it, so it must not be a label.
UNKNOWN = Route("other")
CLIENT_CLOSED_REQUEST = 499
_SWEEP_SECONDS = 1.0
logger = logging.getLogger("slipway.model_server")


class Switches(Protocol):
    """The settings that matter here."""

    @property
    def access_log(self) -> bool:
        """Whether each answer gets a line."""


class Counts(Protocol):
    """What is counted of every request; see metrics.Metrics."""

    def answered(self, route: str, status: int, seconds: float) -> None: ...
    def called_by(self, caller: str, status: int) -> None: ...
    def shed(self, limit: str) -> None: ...
    def in_hand(self, requests: int) -> None: ...
    def dropped(self, lines: int) -> None: ...


class AnswerLog(Protocol):
    """What keeps the answers of inference routes; see prediction_log.PredictionLog."""

    @property
    def durable(self) -> bool: ...

    def add(self, request: Request, status: int) -> None: ...
    async def kept(self, request: Request, status: int) -> bool: ...


class Serving(Protocol):
    """What stands behind the application, and where it stands; see lifecycle.Lifecycle."""

    @property
    def settings(self) -> Switches: ...
    @property
    def metrics(self) -> Counts: ...
    @property
    def log(self) -> AnswerLog | None: ...

    keys: Keys
    headers: tuple[Header, ...]
    name: str
    version: str
    max_concurrency: int
    cors: Cors | None
    draining: bool

    async def start(self) -> None: ...
    async def stop(self) -> None: ...


class Application:
    """behind: BentoML's application (or None in a test), for its probes and its lifespan."""

    def __init__(
        self, lifecycle: Serving, routes: Iterable[Route], behind: Starlette | None = None
    ) -> None:
        self.lifecycle = lifecycle
        self._behind = behind
        self._routes = {route.path: route for route in routes}
        self._lifespan = Router(lifespan=self._run)
        self._bodies = ArrivingBodies()
        self._in_hand = 0
        self._clock = Clock()
        self._log: AccessLog | None = None

    @asynccontextmanager
    async def _run(self, _: object) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if self._behind is not None:
                context = self._behind.router.lifespan_context(self._behind)
                await stack.enter_async_context(context)
            if self.lifecycle.settings.access_log:
                self._log = AccessLog(self.lifecycle.metrics.dropped)
                stack.callback(self._log.close)
            sweeper = asyncio.create_task(self._bodies.watch(_SWEEP_SECONDS))
            stack.callback(sweeper.cancel)
            await self.lifecycle.start()
            stack.push_async_callback(self.lifecycle.stop)
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP request, or the server's lifespan."""
        if scope["type"] == "http":
            if self._behind is not None and scope["path"] in BENTOML_PATHS:
                await self._pass_on(self._behind, scope, receive, send)
            else:
                await self._answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})

    async def _pass_on(self, behind: Starlette, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, self._bodies)

        def seen(status: int) -> None:
            self._record(BENTOML, request, status)

        await behind(scope, receive, with_headers(send, self._headers(request), seen))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, self._bodies)
        route = self._routes.get(request.path) or self._route(request.path)
        try:
            response = await self._respond(route, request)
        except ClientDisconnectedError:
            self._record(route, request, CLIENT_CLOSED_REQUEST)
            if route.inference and self.lifecycle.log is not None:
                self.lifecycle.log.add(request, CLIENT_CLOSED_REQUEST)
            return
        # Not of a preflight, nor of a method that there is not.
        log = self.lifecycle.log if route.inference and request.method in route.methods else None
        if log is not None and log.durable and not await log.kept(request, response.status):
            response = problem_response(problems.prediction_not_logged(), request)
        if self.lifecycle.draining:
            request.uvicorn = None  # ASGI's way knows how to close a connection
        await send_response(send, request, response, self._headers(request))
        self._record(route, request, response.status)
        if log is not None and not log.durable:
            log.add(request, response.status)

    def _route(self, path: str) -> Route:
        """The route of a path that is no route's own."""
        return UNKNOWN

    async def _respond(self, route: Route, request: Request) -> Response:
        try:
            handler = route.handler(request.method)
            if handler is None:
                cors = self.lifecycle.cors if request.method == "OPTIONS" else None
                if cors is not None and (preflight := cors.preflight(request.headers)):
                    return preflight
                if route is UNKNOWN:
                    raise problems.not_found(request.path)
                raise problems.method_not_allowed(request.method, route.path, route.allowed)
            if route.inference:
                request.caller = self.lifecycle.keys.require(
                    request.headers, request.peer, "predict"
                )
                self._admit()
                try:
                    return await handler(request)
                finally:
                    self._leave()
            return await handler(request)
        except Problem as problem:
            return problem_response(problem, request)
        except (ClientDisconnectedError, asyncio.CancelledError):
            raise
        except Exception:
            caller = request.caller or "a client without a key"
            logger.exception("Request %s of %s to %s failed", request.id, caller, request.path)
            return problem_response(problems.internal_error(), request)

    def _admit(self) -> None:
        """Take a request in hand; a 503 Problem where there are too many already."""
        limit = self.lifecycle.max_concurrency
        if self._in_hand >= limit:
            self.lifecycle.metrics.shed("concurrency")
            raise problems.overloaded(f"{limit} requests are being worked on, which is the limit")
        self._in_hand += 1
        self.lifecycle.metrics.in_hand(self._in_hand)

    def _leave(self) -> None:
        self._in_hand -= 1
        self.lifecycle.metrics.in_hand(self._in_hand)

    def _record(self, route: Route, request: Request, status: int) -> None:
        lifecycle = self.lifecycle
        seconds = time.monotonic() - request.started
        lifecycle.metrics.answered(route.path, status, seconds)
        if request.caller:
            lifecycle.metrics.called_by(request.caller, status)
        if self._log is not None:
            line = Line(
                self._clock.now(),
                request.id,
                request.method,
                problems.clean(request.path, 200),
                status,
                round(seconds * 1000, 3),
                lifecycle.name,
                lifecycle.version,
                request.rows,
                request.caller,
                request.trace_id,
                request.client or "",
            )
            if request.scored is not None and COMPARE in request.headers:
                line.compare(request.scored)
            self._log.add(line)

    def _headers(self, request: Request) -> tuple[Header, ...]:
        """Beside those that belong to the answer itself."""
        lifecycle = self.lifecycle
        headers = ((b"x-request-id", request.id.encode()), *lifecycle.headers)
        if request.cache is not None:
            headers += ((b"x-cache", request.cache.encode()),)
        if lifecycle.cors is not None:
            headers += lifecycle.cors.headers(request.headers)
        return headers


class ModelServer(Application):
    """The application of one model."""

    def __init__(self, lifecycle: "Lifecycle", behind: Starlette | None = None) -> None:
        from bentos.model_server.docs import DocsRoutes
        from bentos.model_server.health import HealthRoutes
        from bentos.model_server.info import InfoRoutes
        from bentos.model_server.open_inference import OpenInferenceRoutes
        from bentos.model_server.openapi import openapi
        from bentos.model_server.predict import PredictRoutes

        def document() -> Schema:
            model = lifecycle.require_model()
            return openapi(model.contract, model.limits.max_rows)

        self._open_inference = OpenInferenceRoutes(lifecycle)
        parts = (
            PredictRoutes(lifecycle),
            HealthRoutes(lifecycle),
            InfoRoutes(lifecycle),
            DocsRoutes(document),
            self._open_inference,
        )
        super().__init__(lifecycle, (route for part in parts for route in part.routes()), behind)

    def _route(self, path: str) -> Route:
        found = self._open_inference.route(path) if path.startswith("/v2/") else None
        return found or UNKNOWN
