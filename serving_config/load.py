"""Reading the settings: YAML files, then `SLIPWAY_*` variables over them."""

import json
import os
from collections.abc import Hashable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import ValidationError

from serving_config.base import Settings
from serving_config.features import Features
from serving_config.schema import Configuration, Environment, Model, Platform

FOLDER = Path(__file__).parent

# One variable for each setting that a second checkout, a test or a container has to move out of
# the way, and for each that may hold a secret.
VARIABLES = {
    "SLIPWAY_HOST": ("host",),
    "SLIPWAY_GATEWAY_PORT": ("gateway", "port"),
    "SLIPWAY_GATEWAY_URL": ("gateway", "url"),
    "SLIPWAY_DAGSTER_PORT": ("dagster", "port"),
    "SLIPWAY_DAGSTER_URL": ("dagster", "url"),
    "SLIPWAY_DAGSTER_STORAGE_URL": ("dagster", "storage_url"),
    "SLIPWAY_CODE_SERVER_HOST": ("dagster", "code_server", "host"),
    "SLIPWAY_CODE_SERVER_PORT": ("dagster", "code_server", "port"),
    "SLIPWAY_MLFLOW_PORT": ("mlflow", "port"),
    "SLIPWAY_MLFLOW_URL": ("mlflow", "url"),
    "SLIPWAY_MLFLOW_TRACKING_URI": ("mlflow", "tracking_uri"),
    "SLIPWAY_MLFLOW_BACKEND_URL": ("mlflow", "backend_url"),
    "SLIPWAY_MLFLOW_ARTIFACTS": ("mlflow", "artifacts"),
    "SLIPWAY_MODEL_SERVERS_HOST": ("model_servers", "host"),
    "SLIPWAY_CONTROL_HOST": ("control", "host"),
    "SLIPWAY_CONTROL_PORT": ("control", "port"),
    "SLIPWAY_CONTROL_METRICS_PORT": ("control", "metrics_port"),
    "SLIPWAY_DEFAULT_ENVIRONMENT": ("default_environment",),
    "SLIPWAY_DEFAULT_MODEL": ("default_model",),
    "SLIPWAY_LEDGER_URL": ("ledger_url",),
    "SLIPWAY_ALERT_WEBHOOK_URL": ("alerts", "webhook_url"),
    "SLIPWAY_SLACK_WEBHOOK_URL": ("alerts", "slack_webhook_url"),
    "SLIPWAY_PREDICTIONS_URL": ("predictions", "url"),
    "SLIPWAY_ARTIFACTS_URL": ("artifacts", "url"),
    "SLIPWAY_CLUSTER_GATEWAY_URL": ("kubernetes", "url"),
    "SLIPWAY_DAGSTER_RUNS": ("kubernetes", "dagster", "runs"),
    "SLIPWAY_DAGSTER_IMAGE": ("kubernetes", "dagster", "image"),
}
FEATURE_VARIABLES = {
    "SLIPWAY_FEATURES_PORT": ("port",),
    "SLIPWAY_FEATURES_URL": ("url",),
    "SLIPWAY_FEATURE_STORE": ("store",),
}
# These go over every environment: no password need stand in a file, and the same files do on a
# laptop and on a cluster.
ENVIRONMENT_VARIABLES = {
    "SLIPWAY_TARGET": ("target",),
    "SLIPWAY_CACHE_URL": ("cache_url",),
    "SLIPWAY_CLOUD_EVENTS_URL": ("prediction_log", "cloud_events_url"),
}
# Settings that may hold a password: no message shows what stands there.
_SECRETS = frozenset(
    {
        "backend_url",
        "cache_url",
        "cloud_events_url",
        "ledger_url",
        "slack_webhook_url",
        "storage_url",
        "url",
        "webhook_url",
    }
)

Type = TypeVar("Type", bound=Settings)
Variables = Mapping[str, tuple[str, ...]]


class ConfigurationError(ValueError):
    """Settings that cannot be used: the message names file, key, value and what is allowed."""


def _keys_beside(model: type[Settings], location: tuple[int | str, ...]) -> str:
    """The allowed keys of the settings in which `location` is one."""
    kind: Any = model
    for part in location[:-1]:
        # A mapping of settings (`inputs`) takes any key; all its values are of one kind.
        mapping = get_origin(kind) is dict
        kind = get_args(kind)[1] if mapping else kind.model_fields[part].annotation
        if isinstance(kind, UnionType):  # settings that may be left out
            kind = get_args(kind)[0]
    return ", ".join(sorted(kind.model_fields))


def _explain(model: type[Settings], source: str, error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        if item["type"] == "default_factory_not_called":
            continue  # of a setting that follows from the one that is wrong
        key = ".".join(str(part) for part in item["loc"])
        value = item.get("input")
        secret = not _SECRETS.isdisjoint(item["loc"])
        shown = "" if secret or isinstance(value, dict) else f" (got {value!r})"
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "no such setting"
            shown += f"; allowed keys: {_keys_beside(model, item['loc'])}"
        lines.append(f"{source}: {key + ': ' if key else ''}{message}{shown}")
    return "; ".join(lines)


def _parse(model: type[Type], data: object, source: str) -> Type:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigurationError(_explain(model, source, error)) from error


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML lets the last of two equal keys win in silence; here it is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # the base class says so
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping; ConfigurationError names the file and the line of a mistake."""
    try:
        # The loader is a SafeLoader: it only adds a check for duplicate keys.
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(
            f"{path}: not valid YAML: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(data, dict):
        raise ConfigurationError(f"{path}: must be a mapping of settings, is {type(data).__name__}")
    return data


def _named(
    folder: Path, model: type[Type], over: Variables, variables: Mapping[str, str]
) -> dict[str, Type]:
    loaded = {}
    for path in sorted(folder.glob("*.yaml")):
        data = {"name": path.stem} | read_yaml(path)
        if data["name"] != path.stem:
            raise ConfigurationError(
                f"{path}: name: must be the file's name, {path.stem!r} (got {data['name']!r})"
            )
        source = f"{path}{_used(over, variables)}"
        loaded[path.stem] = _parse(model, _override(data, over, variables), source)
    return loaded


def _used(over: Variables, variables: Mapping[str, str]) -> str:
    used = ", ".join(name for name in over if name in variables)
    return f" with {used}" if used else ""


def _override(
    data: dict[str, Any], over: Variables, variables: Mapping[str, str]
) -> dict[str, Any]:
    for variable, keys in over.items():
        if variable not in variables:
            continue
        target = data
        for key in keys[:-1]:
            target = target.setdefault(key, {})
        if isinstance(target, dict):  # anything else is refused with the file
            target[keys[-1]] = variables[variable]
    return data


def load(folder: Path | None = None, variables: Mapping[str, str] = os.environ) -> Configuration:
    """All settings below `folder` (`SLIPWAY_CONFIG`, or the checkout's serving_config/).

    Raises ConfigurationError naming file, key, value and what is allowed.
    """
    folder = folder or Path(variables.get("SLIPWAY_CONFIG") or FOLDER)
    platform, features = folder / "platform.yaml", folder / "features.yaml"
    used = _used(VARIABLES, variables)
    of_platform = _override(read_yaml(platform), VARIABLES, variables)
    # A platform without features has no such file.
    found = read_yaml(features) if features.exists() else {}
    of_features = _override(found, FEATURE_VARIABLES, variables)
    parts = {
        "platform": _parse(Platform, of_platform, f"{platform}{used}"),
        "environments": _named(
            folder / "environments", Environment, ENVIRONMENT_VARIABLES, variables
        ),
        "models": _named(folder / "models", Model, {}, variables),
        "features": _parse(
            Features, of_features, f"{features}{_used(FEATURE_VARIABLES, variables)}"
        ),
    }
    return _parse(Configuration, parts, f"{folder}{used}")


SCHEMAS: dict[str, type[Settings]] = {
    "platform": Platform,
    "environment": Environment,
    "model": Model,
    "features": Features,
}


def json_schemas() -> dict[str, str]:
    """File name below serving_config/schemas → its text."""
    return {
        f"{name}.json": json.dumps(
            {"$schema": "https://json-schema.org/draft/2020-12/schema"} | model.model_json_schema(),
            indent=2,
        )
        + "\n"
        for name, model in SCHEMAS.items()
    }


def write_json_schemas(folder: Path = FOLDER / "schemas") -> None:
    """Write the published schemas; a test holds that they are up to date."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in json_schemas().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_json_schemas()
