"""When a model's day is scored by itself."""

from datetime import timedelta
from itertools import islice, pairwise
from time import time

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import (
    UnresolvedAssetJobDefinition,
)
from dagster._utils.schedules import cron_string_iterator

from deploy.dagster_names import ACTOR_TAG, batch_job
from serving_config.schema import Configuration, Model

_TICKS = 20


def batch_schedules(
    configuration: Configuration, jobs: dict[str, UnresolvedAssetJobDefinition]
) -> list[dg.ScheduleDefinition]:
    """One for each model whose settings have one. jobs: by model."""
    models = configuration.models.values()
    return [_schedule(m, m.batch.schedule, jobs[m.name]) for m in models if m.batch.schedule]


def _schedule(model: Model, cron: str, job: UnresolvedAssetJobDefinition) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=f"{batch_job(model.name)}_schedule",
        job=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Scores the day before by {model.name}.",
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        at = context.scheduled_execution_time
        day = at.date() - timedelta(days=1)
        if day < model.batch.first_day:
            return dg.SkipReason(f"the first day is {model.batch.first_day}")
        return dg.RunRequest(
            run_key=at.isoformat(), partition_key=day.isoformat(), tags={ACTOR_TAG: "schedule"}
        )

    return schedule


def schedule_seconds(configuration: Configuration) -> dict[str, float]:
    """By job, how often its schedule runs it, for those that have one."""
    return {
        batch_job(model.name): longest_gap(model.batch.schedule)
        for model in configuration.models.values()
        if model.batch.schedule
    }


def longest_gap(cron: str) -> float:
    """Seconds between two of its next ticks, at most: a weekend of one for working days."""
    ticks = islice(cron_string_iterator(time(), cron, "UTC"), _TICKS)
    return max((after - before).total_seconds() for before, after in pairwise(ticks))
