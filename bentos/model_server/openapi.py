"""The OpenAPI document of exactly this model: its fields, its labels, an example that works."""

from typing import Any

import msgspec

from bentos.model_server.answers import label_key
from bentos.model_server.contract import FLOATS, Contract, Input
from bentos.model_server.fields import Field, compile_fields
from bentos.model_server.info import ModelInfo
from bentos.model_server.problems import CONTENT_TYPE, Document

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
    "503": "The model is being loaded or was refused, the server is shutting down, or the API keys "
    "cannot be read.",
}
SECURITY = {
    "X-API-Key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "Bearer": {"type": "http", "scheme": "bearer"},
}


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


def _features(contract: Contract) -> Schema:
    fields = compile_fields(contract)
    return {
        "type": "object",
        "properties": {
            field.name: field_schema(field, stated)
            for field, stated in zip(fields, contract.inputs, strict=True)
        },
        "required": [field.name for field in fields if field.required],
        "additionalProperties": False,
        "examples": [contract.example],
    }


def _values(contract: Contract) -> Schema:
    fields = compile_fields(contract)
    return {
        "type": "array",
        "description": "The values in this order: " + ", ".join(f.name for f in fields),
        "prefixItems": [field_schema(f, i) for f, i in zip(fields, contract.inputs, strict=True)],
        "minItems": len(fields),
        "maxItems": len(fields),
    }


def _wrapper(name: str, schema: Schema) -> Schema:
    return {
        "type": "object",
        "properties": {name: schema},
        "required": [name],
        "additionalProperties": False,
    }


def _prediction(contract: Contract) -> tuple[Schema, Schema]:
    """The schemas of one prediction and of its probabilities."""
    labels = contract.outputs.labels
    if contract.outputs.kind == "regression" or not labels:
        return {"type": "number"}, {"type": "object", "additionalProperties": {"type": "number"}}
    keys = [label_key(label) for label in labels]
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    return {"enum": list(labels)}, {
        "type": "object",
        "properties": dict.fromkeys(keys, probability),
        "required": keys,
    }


def _answer(contract: Contract, *, many: bool) -> Schema:
    prediction, by_label = _prediction(contract)
    name = "predictions" if many else "prediction"
    properties: Schema = {
        name: {"type": "array", "items": prediction} if many else prediction,
        "model": {"$ref": "#/components/schemas/Model"},
        "request_id": {"type": "string"},
    }
    if contract.outputs.probabilities is not None:
        properties["probabilities"] = {"type": "array", "items": by_label} if many else by_label
    return {"type": "object", "properties": properties, "required": list(properties)}


def _schemas(contract: Contract, max_rows: int) -> dict[str, Schema]:
    reference = "#/components/schemas/{name}"
    _, shared = msgspec.json.schema_components([Document, ModelInfo], ref_template=reference)
    row = {"anyOf": [{"$ref": reference.format(name=n)} for n in ("Features", "Values")]}
    rows = {"type": "array", "items": row, "minItems": 1, "maxItems": max_rows}
    wrapped = _wrapper("features", {"$ref": reference.format(name="Features")})
    unwrapped = all(field.name != "features" for field in contract.inputs)
    bare = {"$ref": reference.format(name="Features")}
    return shared | {
        "Features": _features(contract),
        "Values": _values(contract),
        "PredictRequest": {"anyOf": [wrapped, bare]} if unwrapped else wrapped,
        "BatchRequest": _wrapper("instances", rows),
        "PredictAnswer": _answer(contract, many=False),
        "BatchAnswer": _answer(contract, many=True),
        "Model": {
            "type": "object",
            "properties": {n: {"type": "string"} for n in ("name", "version", "variant")},
            "required": ["name", "version", "variant"],
        },
    }


def _content(schema: str, media: str = "application/json", **more: Any) -> Schema:
    return {media: {"schema": {"$ref": f"#/components/schemas/{schema}"}, **more}}


def _problems(*statuses: str) -> Schema:
    content = _content("Document", CONTENT_TYPE)
    return {status: {"description": PROBLEMS[status], "content": content} for status in statuses}


def _post(name: str, summary: str, request: str, answer: str, example: Schema) -> Schema:
    return {
        "post": {
            "operationId": name,
            "summary": summary,
            # Either header; none while no key is configured.
            "security": [*({name: []} for name in SECURITY), {}],
            "requestBody": {"required": True, "content": _content(request, example=example)},
            "responses": {
                "200": {"description": "The prediction.", "content": _content(answer)},
                **_problems(*PROBLEMS),
            },
        }
    }


def _get(name: str, summary: str, content: Schema, *problems: str) -> Schema:
    responses = {"200": {"description": summary, "content": content}, **_problems(*problems)}
    return {"get": {"operationId": name, "summary": summary, "responses": responses}}


def _paths(contract: Contract) -> Schema:
    example = dict(contract.example)
    batch: Schema = {"instances": [example, example]}
    anything: Schema = {"application/json": {"schema": {"type": "object"}}}
    text: Schema = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "/predict": _post(
            "predict",
            "One row. The inputs may also stand at the top, without `features`.",
            "PredictRequest",
            "PredictAnswer",
            {"features": example},
        ),
        "/predict/batch": _post(
            "predict_batch",
            "Several rows: all as objects, or all as arrays in the contract's order.",
            "BatchRequest",
            "BatchAnswer",
            batch,
        ),
        "/model/info": _get(
            "model_info",
            "The contract, the certificate's summary, the lineage.",
            _content("ModelInfo"),
            "503",
        ),
        "/health": _get("health", "Whether the process is alive.", anything),
        "/ready": _get("ready", "Whether requests should be sent here.", anything, "503"),
        "/metrics": _get("metrics", "Prometheus metrics.", text),
    }


def openapi(contract: Contract, max_rows: int) -> Schema:
    """OpenAPI 3.1. `servers` is relative, so it holds behind the gateway's prefixes too."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": contract.model,
            "version": f"{contract.version}-{contract.variant}",
            "description": "One version of one model, with exactly the inputs that it takes. "
            "Errors are RFC 9457 problem documents.",
        },
        "servers": [{"url": "./"}],
        "paths": _paths(contract),
        "components": {"schemas": _schemas(contract, max_rows), "securitySchemes": SECURITY},
    }
