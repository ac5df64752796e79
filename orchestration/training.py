"""`slipway train MODEL`: run the function that a model's YAML names, and get a registered version.

A training function takes a `Target` and returns the `RegisteredVersion` it made. What it trains
and which MLflow flavour it logs is its own business; `examples.registration` has the scikit-learn
way of it.
"""

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from orchestration.addresses import without_password
from orchestration.mlflow_plugins import leave_out_feast
from serving_config.schema import Model

if TYPE_CHECKING:
    import pandas as pd

# The first question to the registry is a read and may be repeated: a dead address fails fast.
PROBE_TIMEOUT_SECONDS, PROBE_RETRIES = 8, 1
# Uploads and writes. MLflow's own 120 s and 7 retries are minutes of silence, and each retry of
# a write that did arrive would register one version more.
REQUEST_TIMEOUT_SECONDS, REQUEST_RETRIES = 60, 1

# Tags of runs and versions: why they were trained, and for whom.
REASON, ACTOR = "slipway.training_reason", "slipway.actor"
BY_HAND = "by hand"


class TrainingError(RuntimeError):
    """Why no version was registered, in one sentence."""


@dataclass(frozen=True)
class RegisteredVersion:
    """A model version in the registry, and what was measured on held-out data."""

    name: str
    version: int
    run_id: str
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingRequest:
    """Why a model is trained.

    reason, actor: for the lineage (the run's tags `slipway.training_reason` and `slipway.actor`).
    fresh: labelled answers since the last training, None where there are none: the model's inputs
    by name, the ground truth in the column `label`, and `time` (UTC), oldest first.
    """

    reason: str = BY_HAND
    actor: str = ""
    fresh: "pd.DataFrame | None" = None


def by_hand(reason: str) -> bool:
    """Whether a person asked for it, or nobody said who did."""
    return not reason or reason.startswith(BY_HAND)


@dataclass(frozen=True)
class Target:
    """Where a training function registers what it trained.

    latest_version: the highest version the registry has of this model, None if it has none.
    request: why it trains, and on which fresh data.
    """

    model: Model
    tracking_uri: str
    latest_version: int | None
    request: TrainingRequest = TrainingRequest()

    @property
    def name(self) -> str:
        """The registered model's name."""
        return self.model.registered_model

    @property
    def next_version(self) -> int:
        """The number the version should get; a seed, not a promise (others may register too)."""
        return (self.latest_version or 0) + 1


TrainingFunction = Callable[[Target], RegisteredVersion]


def train(
    model: Model, tracking_uri: str, request: TrainingRequest = TrainingRequest()
) -> RegisteredVersion:
    """Train `model` and register a version with the MLflow server or store at `tracking_uri`.

    TrainingError says in one sentence what is missing or which address does not answer; what the
    training function itself raises is passed on.
    """
    function = resolve(model)
    with explained(tracking_uri):
        with request_limits(PROBE_TIMEOUT_SECONDS, PROBE_RETRIES):
            latest = latest_version(tracking_uri, model.registered_model)
        with request_limits(REQUEST_TIMEOUT_SECONDS, REQUEST_RETRIES):
            registered = function(Target(model, tracking_uri, latest, request))
    if not isinstance(registered, RegisteredVersion):
        raise TrainingError(
            f"models/{model.name}.yaml: training: {model.training} returned "
            f"{type(registered).__name__}, not a RegisteredVersion"
        )
    return registered


def named(model: Model, name: str | None) -> Model:
    """The model with the training of that name as its `training`; TrainingError lists the names."""
    if name is None:
        return model
    if name not in model.trainings:
        raise TrainingError(
            f"models/{model.name}.yaml: trainings: there is no {name!r}; "
            f"names: {', '.join(sorted(model.trainings)) or 'none'}"
        )
    return model.model_copy(update={"training": model.trainings[name]})


def resolve(model: Model) -> TrainingFunction:
    """The function that `training` names; TrainingError if there is none."""
    where = f"models/{model.name}.yaml"
    if model.training is None:
        raise TrainingError(
            f"{where} has no `training`; register a version with any MLflow client instead"
        )
    module_name, _, function_name = model.training.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise TrainingError(f"{where}: training: cannot import {module_name}: {error}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise TrainingError(f"{where}: training: {module_name} has no function {function_name!r}")
    return cast(TrainingFunction, function)


def latest_version(tracking_uri: str, name: str) -> int | None:
    """The highest version number of a registered model; None only if the registry has none."""
    client = mlflow_client(tracking_uri)
    quote = '"' if "'" in name else "'"
    found = client.search_model_versions(
        f"name={quote}{name}{quote}", max_results=1, order_by=["version_number DESC"]
    )
    return int(found[0].version) if found else None


def mlflow_client(tracking_uri: str) -> Any:
    """An MlflowClient for one address, whatever MLflow's process-wide settings say."""
    from mlflow import MlflowClient

    leave_out_feast()
    return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


@contextmanager
def request_limits(timeout_seconds: int, retries: int) -> Iterator[None]:
    """Limit MLflow's HTTP requests inside the block; limits the user has set stay.

    MLflow reads both from the environment at each request, and takes them nowhere else.
    """
    limits = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout_seconds),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries),
    }
    ours = [name for name in limits if name not in os.environ]
    os.environ.update({name: limits[name] for name in ours})
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


@contextmanager
def explained(tracking_uri: str) -> Iterator[None]:
    """Turn what MLflow raises inside the block into a TrainingError that names the address."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    address = without_password(tracking_uri)
    try:
        yield
    except MlflowException as error:
        cause = _in_chain(error, RequestException)
        if cause is None:
            reason = str(error).strip().partition("\n")[0][:300]
            raise TrainingError(f"MLflow at {address}: {reason}") from error
        why = "timed out" if "timed out" in str(cause) else "no connection"
        raise TrainingError(
            f"the MLflow registry at {address} does not answer ({why}); is it running?"
        ) from error


def _in_chain(error: BaseException | None, kind: type[Exception]) -> BaseException | None:
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error
