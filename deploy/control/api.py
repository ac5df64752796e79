"""The control API: `/v1/…`, for whoever has a key with the scope admin."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from bentos.model_server.asgi import ArrivingBodies
from bentos.model_server.problems import CONTENT_TYPE
from deploy.control.control import Control
from deploy.control.errors import problem_of
from deploy.control.gate import Gate, watching
from deploy.control.openapi import add_docs, document
from deploy.control.routes import (
    batch_jobs,
    changes,
    drift,
    labels,
    ledger,
    metrics,
    models,
    platform,
    split,
)

_DESCRIPTION = """\
What the platform serves, and changes of it. Every route but `/v1/health` wants an API key with the
scope admin: `slipway keys add NAME --scope admin`. Every change is an event of the ledger under
the key's name; with `If-Match` it is made only from the generation that you have seen."""


def control_api(control: Control) -> FastAPI:
    """The application. Its lifespan keeps up with the API keys."""
    bodies = ArrivingBodies()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with watching(control.keys, bodies):
            yield

    app = FastAPI(
        title="Slipway control API",
        version="1",
        description=_DESCRIPTION,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        # FastAPI's own answer to these would be no RFC 9457.
        exception_handlers={HTTPException: _refuse, RequestValidationError: _refuse},
    )
    app.state.control = control
    app.add_middleware(Gate, keys=control.keys, bodies=bodies)
    for part in (models, split, metrics, changes, labels, ledger, drift, batch_jobs, platform):
        app.include_router(part.router, prefix="/v1")
    add_docs(app, document(app))
    return app


async def _refuse(request: Request, error: Exception) -> Response:
    problem = problem_of(error, request.url.path, conditional="if-match" in request.headers)
    body = problem.encode(request.scope["slipway.request"].id, request.url.path)
    return Response(body, int(problem.status), dict(problem.headers), CONTENT_TYPE)
