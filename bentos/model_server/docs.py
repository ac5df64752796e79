"""`/docs` and `/openapi.json`. Swagger UI's files are those that BentoML ships, so the page needs
no internet; where they are missing, it says so and links the schema."""

import functools
from pathlib import Path

import bentoml
import msgspec

from bentos.model_server.asgi import Request, Response, Route
from bentos.model_server.lifecycle import Lifecycle
from bentos.model_server.openapi import openapi
from bentos.model_server.problems import not_found

ASSETS = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
}
HTML = "text/html; charset=utf-8"
# Addresses are relative: the page may lie behind a gateway's /models/<model>/ prefix.
PAGE = b"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
START = b"""SwaggerUIBundle({
  url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null,
});
"""
PLAIN = b"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>API</title></head>
<body><p>This BentoML has no Swagger UI; the schema is <a href="openapi.json">openapi.json</a>.</p>
</body></html>
"""
# The page runs its own scripts and those of nobody else.
HEADERS = (
    (
        "content-security-policy",
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:",
    ),
    ("x-content-type-options", "nosniff"),
)


def assets_folder() -> Path:
    """Where the installed BentoML keeps Swagger UI; a test holds that it is still there."""
    return Path(bentoml.__file__).parent / "_internal" / "server" / "static_content"


@functools.cache
def _asset(name: str) -> bytes:
    # Not at start-up: 1.5 MB that most servers are never asked for.
    return (assets_folder() / name).read_bytes()


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
        complete = all((assets_folder() / name).is_file() for name in ASSETS)
        return Response(PAGE if complete else PLAIN, HTML, headers=HEADERS)

    async def start(self, request: Request) -> Response:
        """The page's own script."""
        return Response(START, ASSETS["swagger-ui-bundle.js"], headers=HEADERS)

    async def asset(self, request: Request) -> Response:
        """One of Swagger UI's files."""
        name = request.path.removeprefix("/docs/")
        try:
            return Response(_asset(name), ASSETS[name], headers=HEADERS)
        except FileNotFoundError:
            raise not_found(request.path) from None

    async def schema(self, request: Request) -> Response:
        """OpenAPI 3.1 of this model."""
        model = self._lifecycle.require_model()
        if self._schema is None:
            document = openapi(model.contract, model.limits.max_rows)
            self._schema = msgspec.json.encode(document)
        return Response(self._schema)
