"""The OpenAPI document of exactly these feature services."""

from collections.abc import Iterable
from typing import Any

import msgspec

from bentos.feature_transformer.checks import typed
from bentos.model_server.openapi_parts import SECURITY, Schema, get, post
from bentos.model_server.problems import Document
from feature_repo.description import Description, Dtype, FeatureServiceDescription, Field

_TYPES: dict[Dtype, tuple[str, Any]] = {
    "int32": ("integer", 17),
    "int64": ("integer", 17),
    "float32": ("number", 0.5),
    "float64": ("number", 0.5),
    "bool": ("boolean", True),
    "string": ("string", "a text"),
}
_PROBLEMS = {
    "404": "There is no such feature service.",
    "422": "The request is wrong, or an entity is unknown or its values are too old: `errors` "
    "names each.",
    "503": "The store does not answer, Feast is being loaded or was refused, the server is "
    "shutting down or has too much to do, or the API keys cannot be read.",
}


def openapi(description: Description, max_rows: int) -> Schema:
    """OpenAPI 3.1. `servers` is relative, as the model server's."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Features of {description.project}",
            "version": description.digest[:12],
            "description": "The newest values of feature services, by entity. Errors are RFC "
            "9457 problem documents.",
        },
        "servers": [{"url": "./"}],
        "paths": _paths(description),
        "components": {"schemas": _schemas(description, max_rows), "securitySchemes": SECURITY},
    }


def _paths(description: Description) -> Schema:
    example = _example(description.services[0]) if description.services else {}
    anything: Schema = {"application/json": {"schema": {"type": "object"}}}
    text: Schema = {"text/plain": {"schema": {"type": "string"}}}
    summary = "The features of some entities, in their order."
    features = post("features", summary, "FeaturesRequest", "FeaturesAnswer", example, "404")
    responses = features["post"]["responses"]
    responses["200"]["description"] = "The features."
    for status, words in _PROBLEMS.items():
        responses[status]["description"] = words
    return {
        "/features": features,
        "/services": get("services", "What can be asked for.", anything, "503"),
        "/health": get("health", "Whether the process is alive.", anything),
        "/ready": get("ready", "Whether requests should be sent here.", anything, "503"),
        "/metrics": get("metrics", "Prometheus metrics.", text),
    }


def _schemas(description: Description, max_rows: int) -> dict[str, Schema]:
    reference = "#/components/schemas/{name}"
    _, shared = msgspec.json.schema_components([Document], ref_template=reference)
    services = [_request(service, max_rows) for service in description.services]
    return shared | {
        "FeaturesRequest": {"anyOf": services} if services else {"type": "object"},
        "FeaturesAnswer": _answer(),
    }


def _request(service: FeatureServiceDescription, max_rows: int) -> Schema:
    def rows(fields: Iterable[Field]) -> Schema:
        return {"type": "array", "items": _row(fields), "minItems": 1, "maxItems": max_rows}

    properties = {"service": {"const": service.name}, "entities": rows(service.entities)}
    if service.request:
        properties["request"] = rows(service.request)
    return _object(properties)


def _row(fields: Iterable[Field]) -> Schema:
    return _object({field.name: _value(field) for field in fields})


def _value(field: Field) -> Schema:
    schema: Schema = {"type": _TYPES[field.dtype][0]}
    checked = typed(field)
    if checked.low is not None and schema["type"] == "integer":
        schema |= {"minimum": checked.low, "maximum": checked.high}
    return schema


def _object(properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _answer() -> Schema:
    value: Schema = {"type": ["number", "string", "boolean", "null"]}
    statuses = {"enum": ["present", "unknown", "stale", "down"]}
    as_of = {"type": ["string", "null"], "format": "date-time"}
    view = _object(
        {
            "as_of": {"type": "array", "items": as_of},
            "status": {"type": "array", "items": statuses},
        }
    )
    columns = {"type": "array", "items": value}
    return _object(
        {
            "features": {"type": "object", "additionalProperties": columns},
            "views": {"type": "object", "additionalProperties": view},
            "defaulted": {"type": "array", "items": {"type": "string"}},
        }
    )


def _example(service: FeatureServiceDescription) -> Schema:
    def row(fields: Iterable[Field]) -> Schema:
        return {field.name: _TYPES[field.dtype][1] for field in fields}

    example: Schema = {"service": service.name, "entities": [row(service.entities)]}
    return example | ({"request": [row(service.request)]} if service.request else {})
