"""Jobs of drift and live quality, each in one process, and the schedules that run them hourly."""

import zlib

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import (
    UnresolvedAssetJobDefinition,
)

from deploy.dagster_names import ACTOR_TAG, monitoring_job
from orchestration.defs.lifecycle.names import Names
from serving_config.schema import Configuration, Model

Jobs = dict[str, UnresolvedAssetJobDefinition]


def monitoring_jobs(model: Model) -> Jobs:
    """By name; their partitions are the environments."""
    names = Names(model.name)
    described = {
        "drift": f"{model.name}: the log's last window against the training data.",
        "quality": f"{model.name}: how good the answers were whose labels are known.",
    }
    jobs = [
        dg.define_asset_job(
            monitoring_job(model.name, "drift" if kind == "drift" else "quality"),
            selection=dg.AssetSelection.assets(names.asset(kind)),
            executor_def=dg.in_process_executor,
            description=text,
        )
        for kind, text in described.items()
    ]
    return {job.name: job for job in jobs}


def monitoring_schedules(
    model: Model, configuration: Configuration, jobs: Jobs
) -> list[dg.ScheduleDefinition]:
    """One for each job and environment; for drift only where it is enabled."""
    kinds = (["drift"] if model.drift.enabled else []) + ["quality"]
    return [
        _schedule(jobs[monitoring_job(model.name, kind)], environment)  # type: ignore[arg-type]
        for kind in kinds
        for environment in sorted(configuration.environments)
    ]


def _schedule(job: UnresolvedAssetJobDefinition, environment: str) -> dg.ScheduleDefinition:
    name = f"{job.name}_{environment.replace('-', '_')}"

    @dg.schedule(
        name=name,
        job=job,
        # Not all of them in the same minute.
        cron_schedule=f"{zlib.crc32(name.encode()) % 60} * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Every hour in {environment}. {job.description}",
    )
    def schedule() -> dg.RunRequest:
        return dg.RunRequest(partition_key=environment, tags={ACTOR_TAG: name})

    return schedule
