"""Whether a model's feature service gives what the model takes."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from bentos.model_server.contract import Contract, Entity, FeatureSource
from feature_repo.description import (
    DESCRIPTION,
    Description,
    FeatureServiceDescription,
    read_description,
)
from orchestration.export.errors import UnservableModel
from orchestration.export.signature import Field
from serving_config.schema import Model


def described(home: Path, model: Model) -> Description | None:
    """The feature store's description; None for a model without a feature service.

    home: the folder of features. UnservableModel where the description cannot be read.
    """
    if model.feature_service is None:
        return None
    try:
        return read_description(home)
    except FileNotFoundError as error:
        raise UnservableModel(
            f"models/{model.name}.yaml: feature_service: {model.feature_service}: no feature "
            "definitions were applied yet; run `slipway up` or `slipway features apply`"
        ) from error
    except (OSError, msgspec.DecodeError) as error:
        raise UnservableModel(
            f"{home / DESCRIPTION}: {error}; run `slipway features apply`"
        ) from error


def feature_source(
    model: Model, inputs: Sequence[Field], description: Description | None
) -> FeatureSource | None:
    """What the model's feature service provides of its inputs; None for a model without one.

    Every input has to come from the service or from the request (as a field that the service's
    on-demand views know), with the type it has there. UnservableModel names the first that does
    not, the service, and what to do. Features that the model does not take are not asked for.
    """
    if model.feature_service is None or description is None:
        return None
    service = _service(model.feature_service, model, description)
    entities = {field.name: field.dtype for field in service.entities}
    provided = {feature.name: feature.dtype for feature in service.features}
    request = {field.name: field.dtype for field in service.request}
    where = f"feature service {service.name}"
    for field in inputs:
        if field.name in entities:
            raise UnservableModel(
                f"input {field.name!r} is an entity key of {where}: it identifies and does not "
                "predict; train without it and log the model again"
            )
        offered = provided.get(field.name) or request.get(field.name)
        if offered is None:
            raise UnservableModel(
                f"input {field.name!r} is neither a feature of {where} nor a request field of its "
                f"on-demand views; {where} has {_names([*provided, *request])}: add it there "
                "(feature_repo/services.py) and run `slipway features apply`, or train without it"
            )
        if offered != field.dtype:
            raise UnservableModel(
                f"input {field.name!r} is {field.dtype} in the model's signature and {offered} in "
                f"{where}; log the model with {offered} or change the feature's type"
            )
    names = [field.name for field in inputs]
    if unknown := [name for name in request if name not in names]:
        raise UnservableModel(
            f"{where} needs {unknown[0]!r} of the request, which is no input of the model, so that "
            "no request may hold it; train with it, or take its on-demand view out of the service"
        )
    return FeatureSource(
        service=service.name,
        entities=tuple(Entity(field.name, field.dtype) for field in service.entities),
        provided=tuple(name for name in names if name in provided),
        request=tuple(name for name in names if name not in provided),
    )


def require_feature_source(home: Path, model: Model, contract: Contract) -> None:
    """Raise UnservableModel where the feature service is not what a version was exported for: the
    definitions may have changed since. home: the folder of features."""
    if contract.feature_source is None:
        return
    inputs = [Field(item.name, item.dtype) for item in contract.inputs]
    if feature_source(model, inputs, described(home, model)) != contract.feature_source:
        raise UnservableModel(
            f"feature service {contract.feature_source.service} is not what version "
            f"{contract.version} of {model.name} was exported for: its entities, or what it reads "
            "of the request, have changed; materialize onnx_model for that version again, or "
            "take the change back and run `slipway features apply`"
        )


def _service(name: str, model: Model, description: Description) -> FeatureServiceDescription:
    try:
        return description.service(name)
    except KeyError as error:
        raise UnservableModel(
            f"models/{model.name}.yaml: feature_service: {error.args[0]}; correct the name, or "
            "define it in feature_repo/services.py and run `slipway features apply`"
        ) from error


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
