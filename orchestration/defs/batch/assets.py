"""`<model>/batch_predictions`, partitioned by day, with the check `batch_drift`."""

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg

from deploy.dagster_names import ACTOR_TAG
from orchestration.batch.days import Places, day_places
from orchestration.batch.documents import Manifest
from orchestration.batch.drop import move_files
from orchestration.defs.batch.checks import batch_check, drift_specs
from orchestration.defs.batch.metadata import batch_metadata
from orchestration.defs.batch.names import CHECK, POOL, batch_asset_op, batch_key
from orchestration.defs.batch.progress import Progress
from orchestration.defs.batch.schedules import longest_gap
from orchestration.defs.lifecycle.failures import one_sentence
from orchestration.defs.lifecycle.names import Names
from orchestration.resources.registry import Registry
from orchestration.resources.serving import Serving
from orchestration.steps.base import Step, Steps
from serving_config.schema import Configuration, Model


class Day(dg.Config):
    """What one run does otherwise than the settings say."""

    version: str | None = None
    """A version's label; the one with the most traffic in production where it is left out."""
    overwrite: bool = True
    """Whether a day that was scored already is scored again."""
    dropped: bool = False
    """First move what lies in the drop folder to the day's input."""


def batch_assets(configuration: Configuration) -> list[dg.AssetsDefinition]:
    """One for each model."""
    return [_batch_predictions(model) for model in configuration.models.values()]


def _spec(model: Model) -> dg.AssetSpec:
    cron = model.batch.schedule
    return dg.AssetSpec(
        batch_key(model.name),
        group_name=Names(model.name).identifier,
        # The day that has begun is one, too: files that are dropped belong to it.
        partitions_def=dg.DailyPartitionsDefinition(
            start_date=model.batch.first_day.isoformat(), end_offset=1
        ),
        kinds={"onnx", "parquet"},
        description="A day's table scored by the verified version that serves in production.",
        freshness_policy=None
        if cron is None
        else dg.FreshnessPolicy.time_window(
            fail_window=timedelta(seconds=max(3600.0, 2 * longest_gap(cron)))
        ),
    )


def _batch_predictions(model: Model) -> dg.AssetsDefinition:
    key = batch_key(model.name)

    @dg.multi_asset(
        name=batch_asset_op(model.name),
        specs=[_spec(model)],
        check_specs=drift_specs(model),
        can_subset=True,
        pool=POOL,
    )
    def batch_predictions(
        context: dg.AssetExecutionContext,
        config: Day,
        registry: Registry,
        serving: Serving,
        steps: dg.ResourceParam[Steps],
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        if key not in context.selected_asset_keys:
            raise dg.Failure(f"{CHECK} is a part of its day's run: materialize the day")
        settings = serving.configuration.models.get(model.name, model)
        day = context.partition_key
        places = day_places(serving.paths, settings, day, dropped=config.dropped)
        with one_sentence():
            step = _score(context, config, serving, settings, places)
            manifest = steps.run(context, step)
        yield dg.MaterializeResult(asset_key=key, metadata=batch_metadata(manifest))
        if context.selected_asset_check_keys:
            yield from batch_check(context.log, serving.paths, registry, settings, manifest)

    return batch_predictions


def _score(
    context: dg.AssetExecutionContext, config: Day, serving: Serving, model: Model, places: Places
) -> Step[Manifest]:
    from orchestration.batch.job import JobRequest
    from orchestration.steps.batch import batch_step

    if config.dropped:
        for path in move_files(serving.paths, model.name, context.partition_key, time.time()):
            context.log.info(f"{path.name} is in {path.parent} now")
    request = JobRequest(
        model=model.name,
        input=places.input,
        output=places.output,
        version=config.version,
        keys=model.batch.keys,
        timestamp=model.batch.timestamp,
        engine=model.batch.engine,
        overwrite=config.overwrite,
        actor=actor_of(context),
        dagster_run=context.run.run_id,
    )
    watch = Progress(context.log.info).watch
    return batch_step(serving.paths, serving.configuration, request, watch)


def actor_of(context: Any) -> str:
    """Who started the run."""
    return context.run.tags.get(ACTOR_TAG) or os.environ.get("USER") or "dagster"
