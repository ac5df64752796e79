"""`/docs` and `/openapi.json`."""

from collections.abc import Callable

import msgspec

from bentos.model_server import swagger
from bentos.model_server.asgi import Request, Response, Route
from bentos.model_server.openapi_parts import Schema
from bentos.model_server.problems import not_found
from bentos.model_server.swagger import ASSETS, HEADERS, HTML


class DocsRoutes:
    """document: the OpenAPI document, made at the first request; a 503 Problem before it can be."""

    def __init__(self, document: Callable[[], Schema]) -> None:
        self._document = document
        self._schema: bytes | None = None

    def routes(self) -> list[Route]:
        """The routes of this file; / shows a browser the page."""
        return [
            Route("/", {"GET": self.index}),
            Route("/docs", {"GET": self.page}),
            Route("/docs/start.js", {"GET": self.start}),
            *(Route(f"/docs/{name}", {"GET": self.asset}) for name in ASSETS),
            Route("/openapi.json", {"GET": self.schema}),
        ]

    async def index(self, request: Request) -> Response:
        """To the page."""
        return Response(b"", HTML, 307, (("location", "docs"),))

    async def page(self, request: Request) -> Response:
        """Swagger UI, or a plain page where BentoML does not ship it."""
        return Response(swagger.page(), HTML, headers=HEADERS)

    async def start(self, request: Request) -> Response:
        """The page's own script."""
        return Response(swagger.START, ASSETS["swagger-ui-bundle.js"], headers=HEADERS)

    async def asset(self, request: Request) -> Response:
        """One of Swagger UI's files."""
        name = request.path.removeprefix("/docs/")
        try:
            return Response(swagger.asset(name), ASSETS[name], headers=HEADERS)
        except FileNotFoundError:
            raise not_found(request.path) from None

    async def schema(self, request: Request) -> Response:
        """OpenAPI 3.1 of this server."""
        if self._schema is None:
            self._schema = msgspec.json.encode(self._document())
        return Response(self._schema)
