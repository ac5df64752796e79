"""The control API's own description: OpenAPI 3.1, with the types of the answers."""

from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.responses import Response

from bentos.model_server import swagger
from bentos.model_server.problems import CONTENT_TYPE, Document

_REF = "#/components/schemas/{name}"
_ETAG = {
    "ETag": {
        "description": "The state's generation, for If-Match.",
        "schema": {"type": "string", "examples": ['"7"']},
    }
}
_PROBLEMS = {
    400: "The body is not JSON.",
    401: "No valid API key.",
    403: "The key has no scope `admin`.",
    404: "There is no such model, environment, version or prediction.",
    408: "The body did not arrive in time.",
    409: "The state does not allow it, or somebody else was faster.",
    412: "If-Match names another generation.",
    413: "The body is larger than 64 KiB (labels: 4 MiB).",
    415: "The body is not declared as JSON.",
    422: "A value is refused; `errors` names the fields.",
    503: "A part of the platform does not answer; nothing was changed.",
}
_OF_ALL = (401, 403, 503)
_OF_CHANGES = (400, 404, 408, 409, 412, 413, 415, 422)
IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "description": "Change only what is still at this generation (an ETag), else 412.",
    "schema": {"type": "string", "examples": ['"7"']},
}
Responses = dict[int | str, dict[str, Any]]
_kinds: dict[str, Any] = {"Problem": Document}


def answers(
    kind: Any, description: str, *refusals: int, status: int = 200, etag: bool = False
) -> Responses:
    """The `responses` of a route that answers `kind`, beside those refusals that all have."""
    _kinds[kind.__name__] = kind
    content = {"application/json": {"schema": {"$ref": _REF.format(name=kind.__name__)}}}
    found: dict[str, Any] = {"description": description, "content": content}
    if etag:
        found["headers"] = _ETAG
    return {status: found, **{code: _problem(code) for code in (*_OF_ALL, *refusals)}}


def page(description: str, *refusals: int) -> Responses:
    """The `responses` of a route that answers HTML."""
    found: dict[str, Any] = {"description": description, "content": {"text/html": {}}}
    return {200: found, **{code: _problem(code) for code in (*_OF_ALL, *refusals)}}


def changes(kind: Any, description: str, *, status: int = 200) -> dict[str, Any]:
    """The arguments of a route that changes the state and answers `kind`."""
    return {
        "status_code": status,
        "responses": answers(kind, description, *_OF_CHANGES, status=status, etag=status == 200),
        "openapi_extra": {"parameters": [IF_MATCH]},
    }


def _problem(status: int) -> dict[str, Any]:
    schema = {"$ref": _REF.format(name="Problem")}
    return {"description": _PROBLEMS[status], "content": {CONTENT_TYPE: {"schema": schema}}}


def document(app: FastAPI) -> dict[str, Any]:
    """OpenAPI 3.1 of the application."""
    found = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    for operations in found["paths"].values():
        for operation in operations.values():  # the page shows no description of a folded one
            operation["summary"] = operation.pop("description")
    _, schemas = msgspec.json.schema_components(list(_kinds.values()), ref_template=_REF)
    components = found.setdefault("components", {})
    # Names of msgspec's are those of the types; the Problem's type is called Document.
    schemas["Problem"] = schemas.pop("Document")
    components.setdefault("schemas", {}).update(schemas)
    components["securitySchemes"] = {
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "bearer": {"type": "http", "scheme": "bearer"},
    }
    found["security"] = [{"key": []}, {"bearer": []}]
    return found


def add_docs(app: FastAPI, schema: Mapping[str, Any]) -> None:
    """`/v1/docs` and `/v1/openapi.json`, open to all."""
    encoded = msgspec.json.encode(schema)

    def add(path: str, body: Any, media: str) -> None:
        def answer() -> Response:
            return Response(body(), media_type=media, headers=dict(swagger.HEADERS))

        app.add_api_route(path, answer, include_in_schema=False)

    add("/v1/openapi.json", lambda: encoded, "application/json")
    add("/v1/docs", swagger.page, swagger.HTML)
    add("/v1/docs/start.js", lambda: swagger.START, swagger.ASSETS["swagger-ui-bundle.js"])
    for name, media in swagger.ASSETS.items():
        add(f"/v1/docs/{name}", lambda name=name: swagger.asset(name), media)
