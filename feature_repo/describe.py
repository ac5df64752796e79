"""The document that describes the definitions, made from the Feast objects."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from feast import FeatureService, FeatureView, OnDemandFeatureView, PushSource
from feast.types import Bool, Float32, Float64, Int32, Int64, String

from feature_repo.description import (
    Description,
    Dtype,
    Feature,
    FeatureServiceDescription,
    Field,
    View,
)

_DTYPES: dict[Any, Dtype] = {
    Float32: "float32",
    Float64: "float64",
    Int32: "int32",
    Int64: "int64",
    Bool: "bool",
    String: "string",
}


class DefinitionError(ValueError):
    """A definition that Feast takes and Slipway does not; one line."""


def describe(project: str, objects: Iterable[Any], digest: str) -> Description:
    """objects: what `feast_objects` returns; views and services come in the order of names.

    DefinitionError for a type that no model input has, for a service without features, and for one
    in which two views have a feature of the same name.
    """
    items = sorted(
        (item for item in objects if hasattr(item, "name")), key=lambda item: str(item.name)
    )
    batch = [_feature_view(item) for item in items if isinstance(item, FeatureView)]
    on_demand = [_on_demand_view(item) for item in items if isinstance(item, OnDemandFeatureView)]
    requests = {
        item.name: _request_fields(item) for item in items if isinstance(item, OnDemandFeatureView)
    }
    views = tuple(batch + on_demand)
    services = (item for item in items if isinstance(item, FeatureService))
    return Description(
        project, digest, views, tuple(_service(item, views, requests) for item in services)
    )


def _feature_view(view: FeatureView) -> View:
    source = view.stream_source or view.batch_source
    pushed = " (push)" if isinstance(source, PushSource) else ""
    return View(
        name=view.name,
        kind="feature_view",
        entities=_fields(view.name, view.entity_columns),
        features=_fields(view.name, view.features),
        ttl_seconds=view.ttl.total_seconds() if view.ttl and view.ttl > timedelta(0) else None,
        source=f"{source.name}{pushed}" if source else "",
        description=view.description,
    )


def _on_demand_view(view: OnDemandFeatureView) -> View:
    if view.source_feature_view_projections:
        raise DefinitionError(
            f"on-demand view {view.name} reads other views: let it read the request alone"
        )
    return View(
        name=view.name,
        kind="on_demand",
        features=_fields(view.name, view.features),
        source=", ".join(sorted(view.source_request_sources)),
        description=view.description,
    )


def _request_fields(view: OnDemandFeatureView) -> tuple[Field, ...]:
    sources = view.source_request_sources.values()
    return tuple(field for source in sources for field in _fields(source.name, source.schema))


def _fields(owner: str, fields: Iterable[Any]) -> tuple[Field, ...]:
    for field in fields:
        if field.dtype not in _DTYPES:
            known = ", ".join(_DTYPES.values())
            raise DefinitionError(f"{owner}: {field.name} is {field.dtype}; use one of {known}")
    return tuple(Field(field.name, _DTYPES[field.dtype]) for field in fields)


def _service(
    service: FeatureService, views: tuple[View, ...], requests: dict[str, tuple[Field, ...]]
) -> FeatureServiceDescription:
    by_name = {view.name: view for view in views}
    features: list[Feature] = []
    entities: dict[str, Field] = {}
    request: dict[str, Field] = {}
    for projection in service.feature_view_projections:
        view = by_name.get(projection.name)
        if view is None:
            raise DefinitionError(
                f"feature service {service.name} reads {projection.name}, "
                "which definitions.py does not import"
            )
        if projection.name_alias or projection.join_key_map:
            raise DefinitionError(f"feature service {service.name} renames {view.name}: do not")
        chosen = _fields(view.name, projection.features)
        features += [Feature(field.name, field.dtype, view.name) for field in chosen]
        entities |= {field.name: field for field in view.entities}
        request |= {field.name: field for field in requests.get(view.name, ())}
    names = [feature.name for feature in features]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DefinitionError(f"feature service {service.name} has {', '.join(twice)} twice")
    if not names:
        raise DefinitionError(f"feature service {service.name} has no features")
    return FeatureServiceDescription(
        name=service.name,
        entities=tuple(entities.values()),
        features=tuple(features),
        request=tuple(request.values()),
        description=service.description,
    )
