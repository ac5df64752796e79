"""Log a trained model as an MLflow run and register it as a model version.

Everything goes through one explicit client: MLflow's fluent API would move the process-wide
tracking URI, and would call the model through pyfunc to validate the input example, which cannot
work for a text pipeline nor with MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false.
"""

import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from orchestration.examples.sklearn_flavor import save_sklearn
from orchestration.training import RegisteredVersion, Target, mlflow_client

if TYPE_CHECKING:
    import pandas as pd

REFERENCE = "reference/reference.parquet"
REFERENCE_ROWS = 2000
HOLD_OUT = "holdout/holdout.parquet"
LABEL = "label"
EXAMPLE_ROWS = 5


@dataclass(frozen=True)
class Trained:
    """A fitted estimator and all that belongs into its run.

    features, labels: the rows it was fitted on; the columns, in this order, are the signature.
    metrics: measured on held-out rows.
    held_out: the most recent rows, which it was not fitted on, and their labels: what it is
        compared with the version in production on.
    reference: rows of the population that it is made for, where those it was fitted on are not.
    trusted_types: what skops has to be told to trust beyond its own list.
    started: seconds since the epoch, when training began.
    save: writes the model's folder as its MLflow flavour has it.
    """

    estimator: Any
    features: "pd.DataFrame"
    labels: "pd.Series[str]"
    metrics: Mapping[str, float]
    params: Mapping[str, str | int | float] = field(default_factory=dict)
    trusted_types: tuple[str, ...] = ()
    started: float = field(default_factory=time.time)
    held_out: "tuple[pd.DataFrame, pd.Series[str]] | None" = None
    reference: "pd.DataFrame | None" = None
    save: "Callable[[Trained, Any, Path], None]" = save_sklearn

    @property
    def example(self) -> "pd.DataFrame":
        """The first rows, as a request would have them."""
        return self.features.head(EXAMPLE_ROWS)

    @property
    def signature(self) -> Any:
        """The columns, and the label."""
        from mlflow.models import infer_signature

        return infer_signature(self.example, self.labels.head(EXAMPLE_ROWS).rename("prediction"))


def log_and_register(target: Target, trained: Trained) -> RegisteredVersion:
    """One run, one logged model, one model version.

    The run gets the metrics, the parameters, the training data's digest, at `REFERENCE` up to
    `REFERENCE_ROWS` rows that verification and drift compare with, and at `HOLD_OUT` the rows that
    were held out, with their labels in the column `LABEL`. Run and version are tagged with why and
    for whom they were made. A run that fails half-way is marked FAILED and registers nothing.
    """
    client = mlflow_client(target.tracking_uri)
    run_id = _create_run(client, target, trained)
    with (
        _ended(client, run_id),
        TemporaryDirectory() as folder,
        warnings.catch_warnings(),
    ):
        # about whole numbers that are missing at serving: the contract refuses them
        warnings.filterwarnings("ignore", ".*integer column", UserWarning)
        _log_dataset(client, run_id, target, trained)
        _log_rows(client, run_id, trained, Path(folder))
        model_id = _log_model(client, run_id, trained, Path(folder) / "model")
        _log_metrics(client, run_id, model_id, trained)
    # Last of all: whoever sees the version finds its run finished and complete.
    version = _create_version(client, target, run_id, model_id)
    return RegisteredVersion(target.name, version, run_id, dict(trained.metrics))


def _create_run(client: Any, target: Target, trained: Trained) -> str:
    from mlflow.entities import Param

    experiment = client.get_experiment_by_name(target.name)
    experiment_id = (
        experiment.experiment_id if experiment else client.create_experiment(target.name)
    )
    tags = {"mlflow.source.name": target.model.training or "", "mlflow.source.type": "LOCAL"}
    tags |= lineage(target)
    run = client.create_run(
        experiment_id,
        start_time=int(trained.started * 1000),
        run_name=f"{target.name} {target.next_version}",
        tags=tags,
    )
    params = [Param(key, str(value)) for key, value in trained.params.items()]
    client.log_batch(run.info.run_id, params=params)
    return str(run.info.run_id)


def lineage(target: Target) -> dict[str, str]:
    """The tags of a run and its version: why it was trained, for whom, on which features."""
    tags = {
        "slipway.training_reason": target.request.reason,
        "slipway.actor": target.request.actor,
        "feast.feature_service": target.model.feature_service or "",
    }
    return {name: value for name, value in tags.items() if value}


@contextmanager
def _ended(client: Any, run_id: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        try:
            client.set_terminated(run_id, "FAILED")
        except Exception as second:  # the registry has gone: the first error is the one to tell
            error.add_note(f"run {run_id} could not be marked FAILED: {second}")
        raise
    client.set_terminated(run_id, "FINISHED")


def _log_dataset(client: Any, run_id: str, target: Target, trained: Trained) -> None:
    """The digest covers features and labels."""
    from mlflow.data import from_pandas
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.entities import DatasetInput, InputTag

    dataset = from_pandas(
        trained.features.assign(**{LABEL: trained.labels}),
        source=CodeDatasetSource(tags={"mlflow.source.name": target.model.training or ""}),
        targets=LABEL,
        name=f"{target.name}-training",
    )
    tag = InputTag(key="mlflow.data.context", value="training")
    client.log_inputs(run_id, [DatasetInput(dataset._to_mlflow_entity(), [tag])])


def _log_rows(client: Any, run_id: str, trained: Trained, folder: Path) -> None:
    reference = trained.features if trained.reference is None else trained.reference
    rows = reference.sample(min(REFERENCE_ROWS, len(reference)), random_state=0)
    _log_parquet(client, run_id, rows, REFERENCE, folder)
    if trained.held_out is not None:
        held_out, labels = trained.held_out
        rows = held_out.assign(**{LABEL: labels.to_numpy()})
        _log_parquet(client, run_id, rows, HOLD_OUT, folder)


def _log_parquet(client: Any, run_id: str, rows: "pd.DataFrame", name: str, folder: Path) -> None:
    path = folder / Path(name).name
    rows.to_parquet(path, index=False)
    client.log_artifact(run_id, str(path), str(Path(name).parent))


def _log_model(client: Any, run_id: str, trained: Trained, folder: Path) -> str:
    from mlflow.entities import LoggedModelOutput

    run = client.get_run(run_id)
    logged = client.create_logged_model(
        run.info.experiment_id,
        name="model",
        source_run_id=run_id,
        params=run.data.params,
        model_type="classifier",
    )
    try:
        _save(trained, logged, run_id, folder)
        client.log_model_artifacts(logged.model_id, str(folder))
    except BaseException:
        client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return str(logged.model_id)


def _save(trained: Trained, logged: Any, run_id: str, folder: Path) -> None:
    from mlflow.models import Model

    model = Model(
        artifact_path=logged.artifact_location,
        model_uuid=logged.model_id,
        model_id=logged.model_id,
        run_id=run_id,
    )
    trained.save(trained, model, folder)


def _log_metrics(client: Any, run_id: str, model_id: str, trained: Trained) -> None:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    client.log_batch(
        run_id,
        metrics=[
            Metric(name, value, now, 0, model_id=model_id, run_id=run_id)
            for name, value in trained.metrics.items()
        ],
    )


def _create_version(client: Any, target: Target, run_id: str, model_id: str) -> int:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(target.name, description=target.model.description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    remote = target.tracking_uri.startswith(("http://", "https://"))
    with nullcontext() if remote else _process_wide(target.tracking_uri):
        created = client.create_model_version(
            target.name, f"models:/{model_id}", run_id, tags=lineage(target), model_id=model_id
        )
    return int(created.version)


@contextmanager
def _process_wide(tracking_uri: str) -> Iterator[None]:
    """A database store resolves `models:/<id>` by MLflow's process-wide URI, not the client's.

    Setting that URI also writes the environment, which is put back as it was.
    """
    from mlflow.tracking._tracking_service.utils import _use_tracking_uri

    before = os.environ.get("MLFLOW_TRACKING_URI")
    try:
        with _use_tracking_uri(tracking_uri):
            yield
    finally:
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before
