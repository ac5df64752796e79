"""The jobs: a day's, and the one that carries out what was posted to `/v1/batch-jobs`."""

from contextlib import suppress
from enum import Enum

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import (
    UnresolvedAssetJobDefinition,
)

from deploy.batch_jobs import BatchJobRecord, BatchRecordError, read_record, records_folder
from deploy.batch_locations import require_input, require_output
from deploy.dagster_names import batch_job, batch_request_job, batch_request_op
from orchestration.batch.documents import Manifest
from orchestration.defs.batch.assets import actor_of
from orchestration.defs.batch.metadata import batch_metadata
from orchestration.defs.batch.names import POOL, RUN_TAGS, batch_key
from orchestration.defs.batch.progress import Progress, Recorder, now_text, recorded
from orchestration.defs.lifecycle.failures import one_sentence
from orchestration.kubernetes.tags import PodTags, pod_tags
from orchestration.resources.serving import Serving
from orchestration.steps.base import Step, Steps
from serving_config.schema import Configuration, Model


def batch_jobs(configuration: Configuration) -> dict[str, UnresolvedAssetJobDefinition]:
    """By model: `<model>_batch`."""
    return {
        name: dg.define_asset_job(
            batch_job(name),
            selection=dg.AssetSelection.assets(batch_key(name)),
            executor_def=dg.in_process_executor,
            description=f"{name}: a day's table scored, and held against the training data.",
            tags=pod_tags(configuration).run("batch") | RUN_TAGS,
        )
        for name in configuration.models
    }


class Engines(Enum):
    """So that Dagster refuses others before it starts a run; by name."""

    local = "local"
    ray = "ray"


class BatchRequest(dg.Config):
    """As the body of `POST /v1/batch-jobs`."""

    input: str
    output: str
    version: str | None = None
    environment: str = "production"
    keys: list[str] | None = None
    timestamp: str = "event_timestamp"
    engine: Engines = Engines.local
    overwrite: bool = False


def batch_request_jobs(configuration: Configuration) -> list[dg.JobDefinition]:
    """`<model>_batch_job` for each model."""
    return [_request_job(model, pod_tags(configuration)) for model in configuration.models.values()]


def _request_job(model: Model, tags: PodTags) -> dg.JobDefinition:
    @dg.op(
        name=batch_request_op(model.name),
        description="Scores one table by a verified version; keeps the job's record.",
        pool=POOL,
    )
    def score(
        context: dg.OpExecutionContext,
        config: BatchRequest,
        serving: Serving,
        steps: dg.ResourceParam[Steps],
    ) -> None:
        folder = records_folder(serving.paths)
        with recorded(folder, _record(context, config, serving, model.name)) as recorder:
            with one_sentence():
                step = _asked_for(context, config, serving, model.name, recorder)
                manifest = steps.run(context, step)
            recorder.succeeded(manifest)
        context.add_output_metadata(batch_metadata(manifest))

    @dg.job(
        name=batch_request_job(model.name),
        executor_def=dg.in_process_executor,
        description=f"{model.name}: a table scored, as POST /v1/batch-jobs asks for it.",
        tags=tags.run("batch") | RUN_TAGS,
    )
    def job() -> None:
        score()

    return job


def _record(
    context: dg.OpExecutionContext, config: BatchRequest, serving: Serving, model: str
) -> BatchJobRecord:
    # A run that takes over from one whose process died goes on with its record.
    run = context.run.root_run_id or context.run.run_id
    before = None
    with suppress(BatchRecordError):  # a damaged one is replaced
        before = read_record(records_folder(serving.paths), run)
    return BatchJobRecord(
        id=run,
        model=model,
        version=config.version,
        environment=config.environment,
        input=config.input,
        output=config.output,
        engine="ray" if config.engine is Engines.ray else "local",
        actor=actor_of(context),
        state="running",
        created_at=before.created_at if before else now_text(),
        started_at=now_text(),
    )


def _asked_for(
    context: dg.OpExecutionContext,
    config: BatchRequest,
    serving: Serving,
    model: str,
    recorder: Recorder,
) -> Step[Manifest]:
    from orchestration.batch.job import JobRequest
    from orchestration.steps.batch import batch_step

    home, configuration = serving.paths, serving.configuration
    # Again: a link may have been put there since.
    require_input(config.input, home, configuration.platform.batch.locations)
    require_output(config.output, home, configuration.platform.batch.locations)
    request = JobRequest(
        model=model,
        input=config.input,
        output=config.output,
        version=config.version,
        environment=config.environment,
        keys=None if config.keys is None else tuple(config.keys),
        timestamp=config.timestamp,
        engine="ray" if config.engine is Engines.ray else "local",
        overwrite=config.overwrite,
        actor=actor_of(context),
        dagster_run=context.run.run_id,
    )
    watch = Progress(context.log.info, recorder.keep).watch
    return batch_step(home, configuration, request, watch)
