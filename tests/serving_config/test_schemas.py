"""The published JSON Schemas, held against the shipped YAML by what they say of each key."""

import json
from pathlib import Path
from typing import Any

import pytest

from serving_config.load import FOLDER, json_schemas, read_yaml, write_json_schemas

SHIPPED = {
    "platform.json": [FOLDER / "platform.yaml"],
    "environment.json": sorted((FOLDER / "environments").glob("*.yaml")),
    "model.json": sorted((FOLDER / "models").glob("*.yaml")),
}
PAIRS = [(schema, path) for schema, paths in SHIPPED.items() for path in paths]
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}


def _mistakes(schema: dict[str, Any], value: Any, root: dict[str, Any], key: str) -> list[str]:
    """What a validator would object to, of the keywords that our schemas use."""
    if reference := schema.get("$ref"):
        schema = root["$defs"][reference.removeprefix("#/$defs/")]
    if choices := schema.get("anyOf"):
        found = [_mistakes(choice, value, root, key) for choice in choices]
        return [] if [] in found else found[0]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{key}: {value!r} is none of {schema['enum']}"]
    if "type" in schema and not isinstance(value, TYPES[schema["type"]]):
        return [f"{key}: {value!r} is no {schema['type']}"]
    if not isinstance(value, dict):
        return []
    known, further = schema.get("properties", {}), schema.get("additionalProperties", True)
    found = []
    for name, item in value.items():
        if name in known or isinstance(further, dict):
            found += _mistakes(known.get(name, further), item, root, f"{key}.{name}")
        elif further is False:
            found.append(f"{key}.{name}: no such key")
    return found


def test_the_published_schemas_are_up_to_date() -> None:
    published = {path.name: path.read_text() for path in (FOLDER / "schemas").iterdir()}
    assert published == json_schemas(), "run `make schemas`"


def test_make_schemas_writes_what_is_published(tmp_path: Path) -> None:
    write_json_schemas(tmp_path / "schemas")
    assert {p.name: p.read_text() for p in (tmp_path / "schemas").iterdir()} == json_schemas()


@pytest.mark.parametrize(("schema", "path"), PAIRS, ids=lambda part: getattr(part, "name", part))
def test_the_shipped_files_are_as_their_schema_says(schema: str, path: Path) -> None:
    document = json.loads(json_schemas()[schema])
    assert _mistakes(document, {"name": path.stem} | read_yaml(path), document, path.name) == (
        [f"{path.name}.name: no such key"] if schema == "platform.json" else []
    )


@pytest.mark.parametrize(("schema", "path"), PAIRS, ids=lambda part: getattr(part, "name", part))
def test_the_shipped_files_name_their_schema_for_editors(schema: str, path: Path) -> None:
    line = path.read_text().splitlines()[0]
    assert line.startswith("# yaml-language-server: $schema=")
    assert (path.parent / line.partition("=")[2]).resolve() == FOLDER / "schemas" / schema


@pytest.mark.parametrize("schema", SHIPPED)
def test_every_setting_has_a_description_for_editors(schema: str) -> None:
    document = json.loads(json_schemas()[schema])
    objects = [document, *document.get("$defs", {}).values()]
    undescribed = [
        name
        for item in objects
        for name, setting in item.get("properties", {}).items()
        if "description" not in setting
    ]
    assert undescribed == []


def test_an_unknown_key_is_a_mistake_in_the_editor_too() -> None:
    document = json.loads(json_schemas()["model.json"])
    value = {"name": "iris", "verification": {"tolerence": 1}}
    assert _mistakes(document, value, document, "iris") == [
        "iris.verification.tolerence: no such key"
    ]
    value = {"name": "iris", "promotion": "soon"}
    assert _mistakes(document, value, document, "iris") != []
