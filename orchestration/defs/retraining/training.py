"""The asset `<model>/training` and the job that makes it: a new version in the registry."""

import os
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import (
    UnresolvedAssetJobDefinition,
)

from deploy.dagster_names import ACTOR_TAG, FINDING_TAG, REASON_TAG, training_job
from orchestration.defs.lifecycle.failures import one_sentence
from orchestration.defs.lifecycle.names import Names
from orchestration.kubernetes.tags import pod_tags
from orchestration.monitoring.fresh import fresh_rows
from orchestration.resources.registry import Registry
from orchestration.resources.serving import Serving
from orchestration.training import ACTOR, REASON, RegisteredVersion, TrainingRequest, train
from serving_config.schema import Configuration, Model

Jobs = dict[str, UnresolvedAssetJobDefinition]


class Training(dg.Config):
    """Why, where no sensor says so in the run's tags, and whether on the labelled answers too."""

    reason: str = "by hand, in Dagster"
    fresh: bool = True


def training_assets(configuration: Configuration) -> list[dg.AssetsDefinition]:
    """`<model>/training` for each model that can be trained."""
    return [_training(model) for model in _trainable(configuration)]


def training_jobs(configuration: Configuration) -> Jobs:
    """By model: `<model>_training`."""
    return {
        model.name: dg.define_asset_job(
            training_job(model.name),
            selection=dg.AssetSelection.assets(training_key(model.name)),
            executor_def=dg.in_process_executor,
            description=f"{model.name}: trained again, and registered as a new version.",
            tags=pod_tags(configuration).run("training"),
        )
        for model in _trainable(configuration)
    }


def training_key(model: str) -> dg.AssetKey:
    """The asset's key."""
    return Names(model).asset("training")


def _trainable(configuration: Configuration) -> list[Model]:
    return [model for model in configuration.models.values() if model.training]


def _training(model: Model) -> dg.AssetsDefinition:
    names = Names(model.name)

    @dg.asset(
        key=training_key(model.name),
        group_name=names.identifier,
        pool=f"train_{names.identifier}",
        kinds={"mlflow"},
        description="Training runs: who or what asked, on which labelled answers, what came of it.",
    )
    def training(
        context: dg.AssetExecutionContext, config: Training, registry: Registry, serving: Serving
    ) -> dg.MaterializeResult[None]:
        tags = context.run.tags
        actor = tags.get(ACTOR_TAG) or os.environ.get("USER") or "dagster"
        reason, home = tags.get(REASON_TAG) or config.reason, serving.paths
        lineage = {
            REASON: reason,
            ACTOR: actor,
            "slipway.finding": tags.get(FINDING_TAG, ""),
            "slipway.training_run": f"{serving.dagster_url}/runs/{context.run.run_id}",
        }
        with one_sentence():
            fresh = None
            if config.fresh:
                since = registry.newest_version_at(model.registered_model)
                settings, now = serving.configuration, datetime.now(UTC)
                fresh = fresh_rows(home, settings, model, since, now)
            rows = 0 if fresh is None else len(fresh)
            context.log.info(f"{reason}; {rows} labelled answers since the last version")
            request = TrainingRequest(reason, actor, fresh)
            registered = train(model, registry.tracking_uri, request)
            known = {name: value for name, value in lineage.items() if value}
            registry.tag_with_run(registered.name, registered.version, registered.run_id, known)
        return dg.MaterializeResult(metadata=_metadata(registry, registered, rows, known))

    return training


def _metadata(
    registry: Registry, registered: RegisteredVersion, rows: int, lineage: dict[str, str]
) -> dict[str, Any]:
    url = registry.version_url(registered.name, registered.version)
    return (
        {"version": registered.version, "page": dg.MetadataValue.url(url), "fresh_rows": rows}
        | {name.removeprefix("slipway."): value for name, value in lineage.items()}
        | {name: float(value) for name, value in registered.metrics.items()}
    )
