"""Dagster's results as messages of Dagster Pipes."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster._core.definitions.metadata import normalize_metadata
from dagster_pipes import PipesContext

_TYPES: dict[type[dg.MetadataValue[Any]], str] = {
    dg.TextMetadataValue: "text",
    dg.UrlMetadataValue: "url",
    dg.PathMetadataValue: "path",
    dg.JsonMetadataValue: "json",
    dg.MarkdownMetadataValue: "md",
    dg.FloatMetadataValue: "float",
    dg.IntMetadataValue: "int",
    dg.BoolMetadataValue: "bool",
    dg.NullMetadataValue: "null",
}


def report_materialization(pipes: PipesContext, result: dg.MaterializeResult[None]) -> None:
    """Of the one asset that the step is about."""
    version = result.data_version
    pipes.report_asset_materialization(
        metadata=as_messages(result.metadata or {}),
        data_version=None if version is None else version.value,
    )


def report_check(
    pipes: PipesContext, asset: dg.AssetKey, name: str, found: dg.AssetCheckResult
) -> None:
    """Of a step that is a check by itself: such a one has no asset, which is why it is named."""
    pipes.report_asset_check(
        name,
        passed=found.passed,
        severity=found.severity.value,
        metadata=as_messages(found.metadata),
        asset_key=asset.to_escaped_user_string(),
    )


def as_messages(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Raw values with their types; KeyError for a type that is not used here."""
    return {name: _message(value) for name, value in normalize_metadata(metadata).items()}


def _message(value: dg.MetadataValue[Any]) -> dict[str, Any]:
    if isinstance(value, dg.TableMetadataValue):
        columns = [{"name": item.name, "type": item.type} for item in value.schema.columns]
        records = [dict(record.data) for record in value.records]
        return {"type": "table", "raw_value": {"records": records, "schema": columns}}
    return {"type": _TYPES[type(value)], "raw_value": value.value}
