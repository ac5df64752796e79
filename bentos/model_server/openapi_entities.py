"""What a model with a feature service adds to its OpenAPI document: requests with entities."""

from collections.abc import Sequence

from bentos.model_server.contract import Contract, FeatureSource, Input
from bentos.model_server.entity_codec import entity_fields, given_fields
from bentos.model_server.fields import Field, compile_fields
from bentos.model_server.openapi_parts import Schema, field_schema, problem_answers

_LOOKED_UP: Schema = {
    "type": "object",
    "description": "To a request with entities: by feature view, what was looked up for them.",
    "additionalProperties": {
        "type": "object",
        "properties": {
            "as_of": {"type": ["string", "null"], "description": "RFC 3339: of the values."},
            "status": {"enum": ["present", "unknown", "stale", "down"]},
        },
    },
}
_DEFAULTED: Schema = {
    "type": "array",
    "description": "The features that defaults stand in for; left out where there are none.",
    "items": {"type": "string"},
}
_ROW = {"$ref": "#/components/schemas/EntityRow"}
_EXAMPLES = {"string": "17", "bool": True, "float32": 17.0, "float64": 17.0}


def _object(fields: Sequence[Field], stated: Sequence[Input]) -> Schema:
    by_name = {item.name: item for item in stated}
    return {
        "type": "object",
        "properties": {field.name: field_schema(field, by_name[field.name]) for field in fields},
        "required": [field.name for field in fields if field.required],
        "additionalProperties": False,
    }


def entity_example(contract: Contract, source: FeatureSource) -> Schema:
    """A row with entities. Whether there is such an entity, only the feature store knows."""
    entities = {key.name: _EXAMPLES.get(key.dtype, 17) for key in source.entities}
    given = {k: v for k, v in contract.example.items() if k not in source.provided}
    return {"entities": entities} | ({"features": given} if given else {})


def _row(contract: Contract, source: FeatureSource) -> Schema:
    keys = _object(entity_fields(source), [Input(key.name, key.dtype) for key in source.entities])
    given = _object(given_fields(source, compile_fields(contract)), contract.inputs)
    return {
        "type": "object",
        "description": f"The feature service {source.service} fills in "
        + ", ".join(source.provided),
        "properties": {"entities": keys, "features": given},
        "required": ["entities", *(["features"] if given["required"] else [])],
        "additionalProperties": False,
        "examples": [entity_example(contract, source)],
    }


def add_entities(document: Schema, contract: Contract, source: FeatureSource) -> None:
    """Change the document of a model to one that has entities, too."""
    schemas = document["components"]["schemas"]
    schemas["EntityRow"] = _row(contract, source)
    schemas["PredictRequest"] = {"anyOf": [_ROW, schemas["PredictRequest"]]}
    rows = schemas["BatchRequest"]["properties"]["instances"]
    rows["items"] = {"anyOf": [_ROW, *rows["items"]["anyOf"]]}
    one = {"features": _LOOKED_UP, "defaulted": _DEFAULTED}
    many = {name: {"type": "array", "items": schema} for name, schema in one.items()}
    schemas["PredictAnswer"]["properties"].update(one)
    schemas["BatchAnswer"]["properties"].update(many)
    example = entity_example(contract, source)
    for path, value in (("/predict", example), ("/predict/batch", {"instances": [example] * 2})):
        post = document["paths"][path]["post"]
        post["responses"].update(problem_answers("502"))
        content = post["requestBody"]["content"]["application/json"]
        content["examples"] = {
            "entities": {"summary": "Features are looked up", "value": value},
            "features": {"summary": "Every input is given", "value": content.pop("example")},
        }
