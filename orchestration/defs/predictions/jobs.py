"""When the log is compacted, what is too old removed, and dropped labels ingested."""

import time
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import (
    UnresolvedAssetJobDefinition,
)

from deploy.dagster_names import COMPACTION_JOB, LABEL_DROP_JOB, RETENTION_JOB
from deploy.predictions.drop import dropped, ingest_drop, ready
from deploy.predictions.retention import remove_expired
from orchestration.resources.serving import Serving

_RETRY_SECONDS = 3600


def compaction_job() -> UnresolvedAssetJobDefinition:
    """Both assets, in one process."""
    return dg.define_asset_job(
        COMPACTION_JOB,
        selection=dg.AssetSelection.assets(["predictions", "compacted"], ["labels", "compacted"]),
        executor_def=dg.in_process_executor,
        description="Complete segments of the prediction log and of the labels become Parquet.",
    )


def compaction_schedule(job: UnresolvedAssetJobDefinition) -> dg.ScheduleDefinition:
    """Every five minutes, unless the run before still goes on."""

    @dg.schedule(
        name=f"{COMPACTION_JOB}_schedule",
        job=job,
        cron_schedule="*/5 * * * *",
        description="Compacts the prediction log and the labels every five minutes.",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        going = dg.RunsFilter(
            job_name=COMPACTION_JOB,
            statuses=[
                dg.DagsterRunStatus.QUEUED,
                dg.DagsterRunStatus.NOT_STARTED,
                dg.DagsterRunStatus.STARTING,
                dg.DagsterRunStatus.STARTED,
            ],
        )
        if context.instance.get_runs_count(going):
            return dg.SkipReason("the compaction before still goes on")
        return dg.RunRequest()

    return schedule


def retention_job() -> dg.JobDefinition:
    """What is older than `predictions.retention_days` goes."""

    @dg.op(description="Removes predictions and labels that are older than retention_days.")
    def remove_expired_predictions(context: dg.OpExecutionContext, serving: Serving) -> None:
        settings = serving.configuration.platform.predictions
        done = remove_expired(serving.paths, settings, datetime.now(UTC))
        context.add_output_metadata(
            {"days": done.days, "files": done.files + done.other_files, "bytes": done.bytes}
        )
        context.log.info(
            f"{done.days} days ({done.files} files) and {done.other_files} other files, "
            f"{done.bytes} bytes, were older than {settings.retention_days} days"
        )

    @dg.job(
        name=RETENTION_JOB,
        executor_def=dg.in_process_executor,
        description="Removes what is older than it is to be kept.",
    )
    def job() -> None:
        remove_expired_predictions()

    return job


def retention_schedule(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Once a night."""
    return dg.ScheduleDefinition(
        name=f"{RETENTION_JOB}_schedule",
        job=job,
        cron_schedule="17 3 * * *",
        description="Removes predictions and labels older than retention_days, every night (UTC).",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )


class LabelFile(dg.Config):
    """A file of the drop folder; all of them where it is left out."""

    file: str = ""


def label_drop_job() -> dg.JobDefinition:
    """Ingests a file of the drop folder; fails where it is rejected, so that somebody looks."""

    @dg.op(description="Ingests labels from labels/drop/<model>/[<environment>/].")
    def ingest_labels(context: dg.OpExecutionContext, config: LabelFile, serving: Serving) -> None:
        only = Path(config.file) if config.file else None
        done = ingest_drop(serving.paths, serving.configuration, datetime.now(UTC), only)
        for item in done:
            words = f"{item.rows} labels" if item.status == "ingested" else item.reason
            context.log.info(f"{item.path}: {item.status}: {words}")
        context.add_output_metadata({"labels": sum(item.rows for item in done)})
        if rejected := [item for item in done if item.status == "rejected"]:
            first = rejected[0]
            raise dg.Failure(f"{len(rejected)} rejected; {first.path}: {first.reason}")

    @dg.job(
        name=LABEL_DROP_JOB,
        executor_def=dg.in_process_executor,
        description="Ingests files of labels from the drop folder.",
        tags={"dagster/max_retries": "0"},
    )
    def job() -> None:
        ingest_labels()

    return job


def label_drop_sensor(job: dg.JobDefinition) -> dg.SensorDefinition:
    """A run for each file that is complete; one that is still there an hour later gets another."""

    @dg.sensor(
        name="label_drop_sensor",
        job_name=job.name,
        minimum_interval_seconds=30,
        description="Ingests new Parquet files of labels in labels/drop/<model>/.",
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(serving: Serving) -> list[dg.RunRequest] | dg.SkipReason:
        requests = [_request(item.path) for item in dropped(serving.paths) if ready(item.path)]
        return requests or dg.SkipReason("no file of labels is complete")

    return sensor


def _request(path: Path) -> dg.RunRequest:
    status = path.stat()
    hour = int(time.time() // _RETRY_SECONDS)
    return dg.RunRequest(
        run_key=f"{path}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{hour}",
        run_config={"ops": {"ingest_labels": {"config": {"file": str(path)}}}},
    )


def prediction_jobs() -> tuple[
    list[UnresolvedAssetJobDefinition | dg.JobDefinition],
    list[dg.ScheduleDefinition],
    list[dg.SensorDefinition],
]:
    """The jobs, schedules and sensors, for `dg.Definitions`."""
    compaction, retention, labels = compaction_job(), retention_job(), label_drop_job()
    schedules = [compaction_schedule(compaction), retention_schedule(retention)]
    return [compaction, retention, labels], schedules, [label_drop_sensor(labels)]
