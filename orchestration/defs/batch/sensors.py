"""The drop folder: what is put there is scored as a part of today's input."""

import hashlib
import time
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import (
    UnresolvedAssetJobDefinition,
)

from deploy.dagster_names import ACTOR_TAG, BATCH_DROP_SENSOR
from deploy.home import Home
from orchestration.batch.drop import complete_files, drop_folder
from orchestration.defs.batch.names import batch_asset_op
from orchestration.resources.serving import Serving
from serving_config.schema import Configuration, Model

_RETRY_SECONDS = 3600


def batch_sensors(
    configuration: Configuration, jobs: dict[str, UnresolvedAssetJobDefinition]
) -> list[dg.SensorDefinition]:
    """One for all models. jobs: by model."""
    if not configuration.models:
        return []

    @dg.sensor(
        name=BATCH_DROP_SENSOR,
        jobs=list(jobs.values()),
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Scores the files that are put into batch/<model>/drop/, as today's input.",
    )
    def sensor(
        context: dg.SensorEvaluationContext, serving: Serving
    ) -> list[dg.RunRequest] | dg.SkipReason:
        now = time.time()
        found, problems = [], []
        for name, job in jobs.items():
            model = configuration.models[name]
            try:
                found += _requests(serving.paths, model, job.name, now)
            except FileNotFoundError:  # a run has just moved it: the next look is another one
                continue
            except OSError as error:  # of one model: the others' files are not to wait for it
                problems.append(f"{drop_folder(serving.paths, name)}: {error.strerror}")
                context.log.error(problems[-1])
        if problems and not found:
            raise dg.Failure("; ".join(problems))
        return found or dg.SkipReason("no file in a drop folder is complete")

    return [sensor]


def _requests(home: Home, model: Model, job: str, now: float) -> list[dg.RunRequest]:
    """One where a file is complete, and its day is one. The run itself moves the files: what is
    requested twice, or not at all, loses none.

    The same files get another run only where they are still there an hour later.
    """
    drop_folder(home, model.name).mkdir(mode=0o700, parents=True, exist_ok=True)
    files = complete_files(home, model.name, now)
    day = datetime.fromtimestamp(now, UTC).date()
    if not files or day < model.batch.first_day:
        return []
    return [
        dg.RunRequest(
            run_key=f"{model.name}:{day}:{_digest(files)}:{int(now // _RETRY_SECONDS)}",
            job_name=job,
            partition_key=day.isoformat(),
            run_config={"ops": {batch_asset_op(model.name): {"config": {"dropped": True}}}},
            tags={ACTOR_TAG: BATCH_DROP_SENSOR},
        )
    ]


def _digest(files: list[Path]) -> str:
    parts = []
    for path in files:
        status = path.stat()
        parts.append(f"{path.name}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}")
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:16]
