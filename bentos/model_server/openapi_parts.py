"""The parts that every path of the OpenAPI document is made of."""

from typing import Any

from bentos.model_server.problems import CONTENT_TYPE

Schema = dict[str, Any]

PROBLEMS = {
    "400": "Not JSON.",
    "401": "No valid API key.",
    "403": "The API key lacks the scope `predict`.",
    "408": "The body did not arrive in time.",
    "413": "The body, or the number of rows, is over this server's limit.",
    "415": "Not declared as JSON.",
    "422": "The contract refuses the input: `errors` names field and row, what was expected and "
    "what came.",
    "500": "Unexpected; the server's log has it under `request_id`.",
    "503": "The model is being loaded or was refused, the server is shutting down or has too much "
    "to do, or the API keys cannot be read.",
    "504": "There was no answer before the deadline.",
}
SECURITY = {
    "X-API-Key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "Bearer": {"type": "http", "scheme": "bearer"},
}
UNKNOWN_MODEL = {"404": "Another model or version than this server's."}


def content_of(schema: str, media: str = "application/json", **more: Any) -> Schema:
    """`content` with one of the document's schemas."""
    return {media: {"schema": {"$ref": f"#/components/schemas/{schema}"}, **more}}


def _problems(*statuses: str) -> Schema:
    texts = PROBLEMS | UNKNOWN_MODEL
    content = content_of("Document", CONTENT_TYPE)
    return {status: {"description": texts[status], "content": content} for status in statuses}


def post(
    name: str, summary: str, request: str, answer: str, example: Schema, *problems: str
) -> Schema:
    """A path that takes a request and predicts. problems: statuses beside those of every POST."""
    content = content_of(request, example=example)
    return {
        "post": {
            "operationId": name,
            "summary": summary,
            # Either header; none while no key is configured.
            "security": [*({name: []} for name in SECURITY), {}],
            "requestBody": {"required": True, "content": content},
            "responses": {
                "200": {"description": "The prediction.", "content": content_of(answer)},
                **_problems(*PROBLEMS, *problems),
            },
        }
    }


def get(name: str, summary: str, content: Schema, *problems: str) -> Schema:
    """A path that only tells. problems: the statuses of its errors."""
    responses = {"200": {"description": summary, "content": content}, **_problems(*problems)}
    return {"get": {"operationId": name, "summary": summary, "responses": responses}}
