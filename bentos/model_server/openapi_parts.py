"""The parts that every path of the OpenAPI document is made of."""

from typing import Any

from bentos.model_server.contract import FLOATS, Input
from bentos.model_server.fields import Field
from bentos.model_server.problems import CONTENT_TYPE

Schema = dict[str, Any]
TYPES = {"bool": "boolean", "string": "string", "int32": "integer", "int64": "integer"}
FORMATS = {"float32": "float", "float64": "double", "int32": "int32", "int64": "int64"}

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
NO_FEATURES = {"502": "The feature transformer's answer to the entities cannot be used."}


def field_schema(field: Field, stated: Input) -> Schema:
    """The JSON Schema of one input."""
    kind = TYPES.get(field.dtype, "number")
    schema: Schema = {"type": kind if field.required else [kind, "null"]}
    if field.dtype in FORMATS:
        schema["format"] = FORMATS[field.dtype]
    # A float's own range is no use to a reader; an integer's is what its format means.
    if field.low is not None and (stated.minimum is not None or field.dtype not in FLOATS):
        schema["minimum"] = field.low
    if field.high is not None and (stated.maximum is not None or field.dtype not in FLOATS):
        schema["maximum"] = field.high
    if field.categories is not None:
        schema["enum"] = [*field.categories] + ([] if field.required else [None])
    if field.max_length is not None:
        schema["maxLength"] = field.max_length
    return schema


def content_of(schema: str, media: str = "application/json", **more: Any) -> Schema:
    """`content` with one of the document's schemas."""
    return {media: {"schema": {"$ref": f"#/components/schemas/{schema}"}, **more}}


def problem_answers(*statuses: str) -> Schema:
    """The answers of these statuses, all of them problem documents."""
    texts = PROBLEMS | UNKNOWN_MODEL | NO_FEATURES
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
                **problem_answers(*PROBLEMS, *problems),
            },
        }
    }


def get(name: str, summary: str, content: Schema, *problems: str) -> Schema:
    """A path that only tells. problems: the statuses of its errors."""
    responses = {"200": {"description": summary, "content": content}, **problem_answers(*problems)}
    return {"get": {"operationId": name, "summary": summary, "responses": responses}}
