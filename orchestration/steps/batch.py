"""Scoring of one table."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import msgspec

from deploy.home import Home
from orchestration.batch import job
from orchestration.batch.documents import Manifest
from orchestration.batch.job import JobRequest
from orchestration.batch.progress import Watch
from orchestration.steps.base import Step
from serving_config.schema import Configuration

REQUEST = "request"


def batch_step(
    home: Home, configuration: Configuration, request: JobRequest, watch: Watch
) -> Step[Manifest]:
    """Writes the table that is asked for. watch: told of the progress; of a process elsewhere the
    run's log has it."""

    def read(_: dg.PipesClientCompletedInvocation, said: Mapping[str, Any]) -> Manifest:
        return msgspec.convert(said["manifest"], Manifest)

    return Step(
        "batch",
        (request.model,),
        lambda: job.run_job(home, configuration, request, watch),
        read,
        {REQUEST: msgspec.to_builtins(request)},
    )


def asked_for(extras: Mapping[str, Any]) -> JobRequest:
    """The request that `batch_step` sent."""
    return msgspec.convert(extras[REQUEST], JobRequest)
