"""`/docs` and `/openapi.json`."""

import msgspec

from bentos.model_server import swagger
from bentos.model_server.asgi import Request, Response, Route
from bentos.model_server.lifecycle import Lifecycle
from bentos.model_server.openapi import openapi
from bentos.model_server.problems import not_found
from bentos.model_server.swagger import ASSETS, HEADERS, HTML


class DocsRoutes:
    """Made from the contract once it is loaded."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
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
        """OpenAPI 3.1 of this model."""
        model = self._lifecycle.require_model()
        if self._schema is None:
            document = openapi(model.contract, model.limits.max_rows)
            self._schema = msgspec.json.encode(document)
        return Response(self._schema)
