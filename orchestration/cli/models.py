"""`slipway train` and `verify`, and what commands ask about versions."""

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from deploy.control.progress import Progress, read_progress
from deploy.dagster_client import DagsterClient
from deploy.dagster_names import ACTOR_TAG, POLICY_TAG, identifier, job_name, partitions_name
from deploy.ledger import open_ledger
from deploy.live import most_traffic
from deploy.platform import LocalPlatform
from orchestration.cli.context import configured_model, local_platform, require_up
from orchestration.cli.follow import follow
from orchestration.cli.output import console, step
from orchestration.cli.status import dagster_url, mlflow_url
from orchestration.cli.traffic import actor
from orchestration.cli.version_label import VersionLabel
from orchestration.labels import Label
from orchestration.release_progress import is_release_of
from serving_config.schema import Model

if TYPE_CHECKING:
    from orchestration.training import RegisteredVersion


class NoFreshDataError(ValueError):
    """Nobody has labelled an answer."""


class UnknownVersionError(ValueError):
    """The registry has no such version."""


def resolve_version(platform: LocalPlatform, model: Model, version: str | None) -> str:
    """The version's label, or that of the newest one; UnknownVersionError lists those there are,
    LabelError names the variants that the model's settings lack."""
    label = Label.configured(version, model) if version is not None else None
    known = registered_versions(platform, model)
    if not known:
        raise UnknownVersionError(
            f"registered model {model.registered_model!r} has no version in MLflow at "
            f"{mlflow_url(platform)}: `slipway train {model.name}`, or "
            "register one with any MLflow client"
        )
    if label is not None and label.number not in known:
        listed = ", ".join(map(str, known[-20:]))
        raise UnknownVersionError(f"{model.name} has no version {label.number}; versions: {listed}")
    return str(label or known[-1])


def registered_versions(platform: LocalPlatform, model: Model) -> list[int]:
    """Version numbers in the registry, the oldest first."""
    from orchestration.resources.registry import Registry
    from orchestration.training import PROBE_RETRIES, PROBE_TIMEOUT_SECONDS, request_limits

    registry = Registry(tracking_uri=platform.configuration.platform.mlflow.uri)
    with request_limits(PROBE_TIMEOUT_SECONDS, PROBE_RETRIES):  # a dead registry fails fast
        if model.registered_model not in registry.names():
            return []
        return [item.version for item in registry.versions(model.registered_model)]


def launch(
    platform: LocalPlatform,
    model: Model,
    version: str,
    target: str,
    steps: tuple[str, ...] = (),
    policy: str | None = None,
) -> None:
    """Start a job of the model for the version and follow it to its end."""
    dagster = DagsterClient(dagster_url(platform))
    dagster.add_partition(partitions_name(model.name), version)
    tags = {ACTOR_TAG: actor()} | ({POLICY_TAG: policy} if policy else {})
    keys = [f"{identifier(model.name)}__{name}" for name in steps]
    run_id = dagster.launch(job_name(model.name, target), version, tags, keys)

    def look() -> Progress | None:
        found = read_progress(platform.home, target, model.name)
        return found if found and is_release_of(found, version) else None

    follow(dagster, run_id, look)


def train_and_register(
    platform: LocalPlatform, model: Model, *, fresh: bool = False, name: str | None = None
) -> "RegisteredVersion":
    """Run the model's training function, or that of its `trainings` with the name; fresh: on the
    labelled answers since its last version."""
    from orchestration.training import TrainingRequest, named
    from orchestration.training import train as run_training

    model = named(model, name)
    # Where a training function of a model on features finds the store that the platform serves.
    os.environ.setdefault("SLIPWAY_FEATURES_HOME", str(platform.home.features))
    rows = _fresh_rows(platform, model) if fresh else None
    with step(f"{model.name} is trained and registered in MLflow"):
        request = TrainingRequest(actor=actor(), fresh=rows)
        return run_training(model, platform.configuration.platform.mlflow.uri, request)


def _fresh_rows(platform: LocalPlatform, model: Model) -> Any:
    from orchestration.monitoring.fresh import fresh_rows
    from orchestration.resources.registry import Registry
    from orchestration.training import PROBE_RETRIES, PROBE_TIMEOUT_SECONDS, request_limits

    configuration = platform.configuration
    registry = Registry(tracking_uri=configuration.platform.mlflow.uri)
    with request_limits(PROBE_TIMEOUT_SECONDS, PROBE_RETRIES):
        since = registry.newest_version_at(model.registered_model)
    rows = fresh_rows(platform.home, configuration, model, since, datetime.now(UTC))
    if rows is None:
        when = f" since {since:%Y-%m-%d %H:%M} UTC" if since else ""
        raise NoFreshDataError(
            f"{model.name} has no labelled answers{when}: send labels to POST /v1/labels, or "
            "leave out --with-fresh-data"
        )
    console.print(f"{len(rows)} labelled answers since the last version", markup=False)
    return rows


@click.command()
@click.argument("model")
@click.option("--with", "name", metavar="NAME", help="By that one of its YAML's `trainings`.")
@click.option(
    "--with-fresh-data", is_flag=True, help="Also on the labelled answers since its last version."
)
@click.option("--first", is_flag=True, help="Only where the registry has no version of it.")
def train(model: str, name: str | None, with_fresh_data: bool, first: bool) -> None:
    """Train MODEL by its YAML's `training` and register the new version."""
    platform = local_platform()
    settings = configured_model(platform, model)
    if first and (known := registered_versions(platform, settings)):
        console.print(f"{model} has version {known[-1]} already", markup=False)
        return
    registered = train_and_register(platform, settings, fresh=with_fresh_data, name=name)
    scores = ", ".join(f"{name} {value:.4g}" for name, value in registered.metrics.items())
    console.print(f"{model} version {registered.version} ({scores})", markup=False)
    page = f"/#/models/{registered.name}/versions/{registered.version}"
    console.print(Text(f"{mlflow_url(platform)}{page}", style="dim"), soft_wrap=True)


version_option = click.option(
    "--version", type=VersionLabel(), help="As 3 or 3-int8; the newest one if left out."
)


@click.command()
@click.argument("model")
@version_option
@click.option("--export-only", is_flag=True, help="Prove nothing yet.")
def verify(model: str, version: str | None, export_only: bool) -> None:
    """Export MODEL and prove that the graph answers as the trained model; deploys nothing."""
    platform = local_platform()
    settings = configured_model(platform, model)
    require_up(platform)
    label = resolve_version(platform, settings, version)
    exports = ("registered_model", "onnx_model")
    proves = () if export_only else ("onnx_model_conversion_parity",)
    launch(platform, settings, label, "staging", exports + proves)
    if export_only:
        console.print(f"[green]{model} version {label} is exported[/]")
        return
    says = "keeps its limits" if Label.parse(label).is_variant else "answers as it was trained"
    console.print(f"[green]{model} version {label} {says}[/]")


def live_version(platform: LocalPlatform, environment: str, model: str) -> str | None:
    """The label of the version that has the most traffic there, or None."""
    with open_ledger(platform.home, platform.configuration) as ledger:
        served = most_traffic(ledger.state(environment, model).live)
    return served.label if served else None
