"""Opening the feature store that a settings file of this folder describes."""

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from feast import Entity, FeatureService, FeatureStore, FeatureView, OnDemandFeatureView
from feast.data_source import DataSource
from feast.repo_config import RepoConfig
from pydantic import ValidationError

from feature_repo.home import features_home
from feature_repo.newest_sqlite import NewestSqliteOnlineStoreConfig
from feature_repo.sources import read_below

FOLDER = Path(__file__).parent
STORE = "feature_store.yaml"


class StoreError(RuntimeError):
    """A feature store that cannot be opened; one line that says what to do."""


def open_store(
    home: Path | None = None, store: str = STORE, variables: Mapping[str, str] = os.environ
) -> FeatureStore:
    """The store of the YAML file `store`, with the objects that were last applied to its registry.

    home: the folder of features, else `features_home`. A process that goes on gives it to
    `close_store` when it is done. StoreError.
    """
    settings = store_settings(home, store, variables)
    with _one_line(store):
        opened = FeatureStore(config=_configuration(settings, store))
        _ = opened.registry  # connects here, so that the error is of here, too
        return opened


def close_store(store: FeatureStore) -> None:
    """Close the connections to the registry's database, which Feast leaves open."""
    for name in ("write_engine", "read_engine"):
        if (engine := getattr(store.registry, name, None)) is not None:
            engine.dispose()


def private_store(
    folder: Path,
    home: Path | None = None,
    store: str = STORE,
    variables: Mapping[str, str] = os.environ,
) -> FeatureStore:
    """The online store of the YAML file, with this code's definitions instead of a registry's.

    For who answers requests: reading a registry runs the code in it. folder: a private one, which
    gets a registry of its own. Nothing is written to the online store, and nothing to the YAML's
    registry; StoreError.
    """
    from feature_repo import definitions

    settings = store_settings(home, store, variables)
    read_below(home or features_home(variables))
    registry = {"path": str(folder / "registry.db"), "cache_ttl_seconds": 0}
    settings |= {"registry": registry}
    # Never asked: Feast's own default needs fewer packages than the YAML's.
    settings.pop("offline_store", None)
    with _one_line(store), without_feast_notices():
        offline = FeatureStore(config=_configuration(settings | {"online_store": None}, store))
        offline.apply(feast_objects(definitions))
        return FeatureStore(config=_configuration(settings, store))


def applied(store: FeatureStore, name: str, objects: list[Any]) -> None:
    """What `feast apply` does: also delete what the registry has and the objects have not."""
    from feast.feature_view import DUMMY_ENTITY
    from feast.repo_contents import RepoContents
    from feast.repo_operations import extract_objects_for_apply_delete

    def of(*kinds: type) -> list[Any]:
        return [item for item in objects if isinstance(item, kinds)]

    contents = RepoContents(
        projects=[],
        data_sources=of(DataSource),
        feature_views=of(FeatureView),
        on_demand_feature_views=of(OnDemandFeatureView),
        stream_feature_views=[],
        label_views=[],
        entities=[*of(Entity), DUMMY_ENTITY],
        feature_services=of(FeatureService),
        permissions=[],
    )
    with _one_line(name), without_feast_notices():
        project = store.project
        changed, deleted, _, _ = extract_objects_for_apply_delete(project, store.registry, contents)
        store.apply(changed, objects_to_delete=deleted, partial=False)


def store_settings(
    home: Path | None, store: str, variables: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """The YAML file's content, with `${VARIABLES}` filled in and files below home."""
    path = FOLDER / store
    try:
        settings = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        known = ", ".join(sorted(item.name for item in FOLDER.glob("*.yaml")))
        raise StoreError(f"{store} is not in {FOLDER}; there is: {known}") from None
    except yaml.YAMLError as error:
        raise StoreError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise StoreError(f"{path} has to be a mapping, as Feast's feature_store.yaml is")
    filled: dict[str, Any] = _filled(settings, store, variables)
    return _below(filled, home or features_home(variables))


def feast_objects(module: ModuleType) -> list[Any]:
    """The module's Feast objects, as `feast apply` would find them."""
    kinds = (DataSource, Entity, FeatureView, OnDemandFeatureView, FeatureService)
    return [item for item in vars(module).values() if isinstance(item, kinds)]


@contextmanager
def without_feast_notices() -> Iterator[None]:
    """Feast calls on-demand feature views experimental each time that they are applied."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "On demand feature view is an experimental feature")
        yield


def _filled(value: Any, store: str, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, store, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, store, variables) for item in value]
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        if not variables.get(match[1]):
            raise StoreError(f"{match[1]} is not set, and {store} needs it")
        return variables[match[1]]

    return re.sub(r"\$\{(\w+)\}", variable, value)


def _below(settings: dict[str, Any], home: Path) -> dict[str, Any]:
    """Relative files as absolute ones; the same rule as in `newest_sqlite` and `home_plugin`,
    which know only the environment's home."""
    online, registry = settings.get("online_store"), settings.get("registry")
    if isinstance(online, dict) and str(online.get("type")).endswith("NewestSqliteOnlineStore"):
        name = online.get("path", NewestSqliteOnlineStoreConfig.model_fields["path"].default)
        settings["online_store"] = online | {"path": str(home / name)}
    if isinstance(registry, dict) and "plugin=features_home" in str(registry.get("path")):
        name = registry["path"].removeprefix("sqlite:///")
        settings["registry"] = registry | {"path": f"sqlite:///{home / name}"}
    return settings


def _configuration(settings: dict[str, Any], store: str) -> RepoConfig:
    # A copy: Feast changes what it is given.
    configuration = RepoConfig(**settings)
    configuration.repo_path = FOLDER
    return configuration


@contextmanager
def _one_line(store: str) -> Iterator[None]:
    """What Feast and its stores say of wrong settings, as a StoreError."""
    from feast.errors import FeastError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except ValidationError as error:
        said = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
        )
        raise StoreError(f"{store}: {said}") from error
    except (FeastError, SQLAlchemyError, OSError, ValueError, ImportError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise StoreError(f"{store}: {said}") from error
