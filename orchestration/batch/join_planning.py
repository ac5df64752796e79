"""Whether inputs have to be looked up in the feature store, and how."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from bentos.model_server.contract import Contract, Dtype, FeatureSource
from feature_repo.description import DESCRIPTION, Description, View
from orchestration.batch.columns import can_hold
from orchestration.batch.documents import ColumnType, FeatureJoin, JoinedView
from orchestration.batch.errors import InputError
from serving_config.features import Features, FeatureView


def make_join(
    contract: Contract,
    schema: Sequence[ColumnType],
    timestamp: str,
    settings: Features,
    features_home: Path,
) -> FeatureJoin | None:
    """None where there is nothing to look up: no feature service, or all inputs are there."""
    source = contract.feature_source
    types = {column.name: column.type for column in schema}
    if source is None or types.keys() >= set(source.provided):
        return None
    if some := sorted(types.keys() & set(source.provided)):
        missing = sorted(set(source.provided) - types.keys())
        raise InputError(
            f"the input has {some[0]!r}, which {source.service} provides, but not {missing[0]!r}: "
            "give all that it provides, or nothing of it"
        )
    looked_up = _looked_up(contract, source)
    _require_columns(source, types, looked_up, timestamp)
    return FeatureJoin(
        service=source.service,
        entities=tuple(entity.name for entity in source.entities),
        provided=source.provided,
        timestamp=timestamp,
        looked_up={**looked_up},
        views=tuple(
            _joined_view(view, settings.views.get(view.name) or FeatureView())
            for view in _described(features_home, source.service)
        ),
        store=settings.store,
    )


def _looked_up(contract: Contract, source: FeatureSource) -> dict[str, Dtype]:
    inputs = {field.name: field.dtype for field in contract.inputs}
    entities = {entity.name: entity.dtype for entity in source.entities}
    return entities | {name: inputs[name] for name in source.request}


def _require_columns(
    source: FeatureSource, types: dict[str, str], looked_up: dict[str, Dtype], timestamp: str
) -> None:
    needed = [*looked_up, timestamp]
    if missing := [name for name in needed if name not in types]:
        raise InputError(
            f"the input has neither what {source.service} provides nor {', '.join(missing)}, by "
            f"which that is looked up: it takes {', '.join(needed)} (--timestamp names the column "
            "of the moments)"
        )
    for name, dtype in looked_up.items():
        if not can_hold(types[name], dtype) and types[name] not in ("string", "large_string"):
            raise InputError(f"column {name!r} is {types[name]}, {source.service} takes {dtype}")
    kind = types[timestamp]
    if kind not in ("string", "large_string") and not (
        kind.startswith("timestamp[") and "tz=" in kind
    ):
        raise InputError(
            f"column {timestamp!r} is {kind}: moments are timestamps with a time zone, or texts "
            "such as 2026-11-20T12:00:00Z"
        )


def _described(features_home: Path, service: str) -> tuple[View, ...]:
    """The feature views of the service, each with the features that it asks for."""
    path = features_home / DESCRIPTION
    try:
        description = msgspec.json.decode(path.read_bytes(), type=Description)
        features = description.service(service).features
    except (OSError, msgspec.DecodeError, KeyError) as error:
        raise InputError(
            f"the feature store has no {service} that could be read ({path}): "
            "`slipway features apply`"
        ) from error
    return tuple(
        msgspec.structs.replace(
            view, features=tuple(field for field in view.features if field.name in asked)
        )
        for view in description.views
        if (asked := {item.name for item in features if item.view == view.name})
        and view.kind == "feature_view"
    )


def _joined_view(view: View, settings: FeatureView) -> JoinedView:
    features = tuple(feature.name for feature in view.features)
    return JoinedView(
        name=view.name,
        keys=tuple(field.name for field in view.entities),
        features=features,
        on_unknown=settings.on_unknown,
        on_stale=settings.on_stale,
        defaults={name: settings.defaults[name] for name in features if name in settings.defaults},
    )
