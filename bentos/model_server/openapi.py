"""The OpenAPI document of exactly this model: its fields, its labels, an example that works."""

import msgspec

from bentos.model_server.answers import label_key
from bentos.model_server.contract import Contract
from bentos.model_server.fields import compile_fields
from bentos.model_server.info import ModelInfo
from bentos.model_server.openapi_entities import add_entities
from bentos.model_server.openapi_parts import SECURITY, Schema, content_of, field_schema, get, post
from bentos.model_server.openapi_v2 import v2_paths, v2_schemas
from bentos.model_server.problems import Document


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
    return (
        shared
        | v2_schemas()
        | {
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
    )


def _paths(contract: Contract) -> Schema:
    example = dict(contract.example)
    batch: Schema = {"instances": [example, example]}
    anything: Schema = {"application/json": {"schema": {"type": "object"}}}
    text: Schema = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "/predict": post(
            "predict",
            "One row. The inputs may also stand at the top, without `features`.",
            "PredictRequest",
            "PredictAnswer",
            {"features": example},
        ),
        "/predict/batch": post(
            "predict_batch",
            "Several rows: all as objects, or all as arrays in the contract's order.",
            "BatchRequest",
            "BatchAnswer",
            batch,
        ),
        "/model/info": get(
            "model_info",
            "The contract, the certificate's summary, the lineage.",
            content_of("ModelInfo"),
            "503",
        ),
        "/health": get("health", "Whether the process is alive.", anything),
        "/ready": get("ready", "Whether requests should be sent here.", anything, "503"),
        "/metrics": get("metrics", "Prometheus metrics.", text),
    }


def openapi(contract: Contract, max_rows: int) -> Schema:
    """OpenAPI 3.1. `servers` is relative, so it holds behind the gateway's prefixes too."""
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": contract.model,
            "version": f"{contract.version}-{contract.variant}",
            "description": "One version of one model, with exactly the inputs that it takes. "
            "Errors are RFC 9457 problem documents.",
        },
        "servers": [{"url": "./"}],
        "paths": _paths(contract) | v2_paths(contract),
        "components": {"schemas": _schemas(contract, max_rows), "securitySchemes": SECURITY},
    }
    if contract.feature_source is not None:
        add_entities(document, contract, contract.feature_source)
    return document
