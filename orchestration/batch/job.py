"""A batch job from the request to the manifest: what the command, the API and Dagster call."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bentos.model_server.contract import parse_label
from deploy.events import Live
from deploy.home import Home
from deploy.ledger import open_ledger
from deploy.live import most_traffic
from deploy.release import Release
from deploy.versions import built_release, live_release
from orchestration.batch.documents import Manifest, Plan
from orchestration.batch.engines.base import BatchEngine
from orchestration.batch.errors import BatchError, OutputError
from orchestration.batch.planning import make_plan, require_apart
from orchestration.batch.progress import JobProgress, Progress, Watch
from orchestration.batch.publish import (
    finish,
    publish,
    read_manifest,
    require_free,
    was_published,
)
from orchestration.batch.storage_folder import Folder, explained
from orchestration.batch.summary import make_manifest
from orchestration.batch.work import Work, exclusive, work_of, works_of
from serving_config.schema import Configuration

__all__ = ["JobProgress", "JobRequest", "Watch", "run_job", "run_release"]


@dataclass(frozen=True)
class JobRequest:
    """input, output: paths or fsspec URLs. version: a label; the one with the most traffic in
    `environment` where it is left out. keys: None for all columns that are no inputs."""

    model: str
    input: str
    output: str
    version: str | None = None
    environment: str = "production"
    keys: tuple[str, ...] | None = None
    timestamp: str = "event_timestamp"
    engine: Literal["local", "ray"] = "local"
    overwrite: bool = False
    actor: str = ""
    dagster_run: str | None = None


def run_job(
    home: Home, configuration: Configuration, request: JobRequest, watch: Watch | None = None
) -> Manifest:
    """Check everything that can be checked, then score, then let the result appear.

    Raises BatchError (its kinds in `errors`), CertificateError, ReleaseError, MissingFileError for
    a version that was not verified, LedgerError. The same request again: continues what was
    killed; for a result that is there, OutputError unless `overwrite`.
    """
    release = find_release(home, configuration, request)
    name, _, version = release.tag.partition(":")
    model_folder = home.bentoml / "bentos" / name / version / "src" / "model"
    return run_release(release, model_folder, request, configuration, home.features, watch)


def find_release(home: Home, configuration: Configuration, request: JobRequest) -> Release:
    """The version that is asked for; of two Bentos of it, the one that is live."""
    if request.model not in configuration.models:
        known = ", ".join(sorted(configuration.models)) or "none"
        raise BatchError(f"there is no model {request.model}; there is: {known}")
    if request.environment not in configuration.environments:
        known = ", ".join(sorted(configuration.environments)) or "none"
        raise BatchError(f"there is no environment {request.environment}; there is: {known}")
    if request.version is not None:
        try:
            parse_label(request.version)
        except ValueError as error:
            raise BatchError(str(error)) from error
    with open_ledger(home, configuration) as ledger:
        live = ledger.state(request.environment, request.model).live
    found: Live | None = (
        most_traffic(live)
        if request.version is None
        else next((item for item in live if item.label == request.version), None)
    )
    if found is not None:
        return live_release(home, found)
    if request.version is None:
        raise BatchError(
            f"no version of {request.model} is live in {request.environment}: name one (--version)"
        )
    return built_release(home, request.model, request.version)


def run_release(
    release: Release,
    model_folder: Path,
    request: JobRequest,
    configuration: Configuration,
    features_home: Path,
    watch: Watch | None = None,
) -> Manifest:
    """The same for a release that was found: `run_job` without the ledger."""
    output = Folder(request.output)
    begun = _begun(output, request)
    plan = make_plan(release, request, configuration, features_home, begun)
    require_apart(request.input, plan, output)
    work = work_of(output, plan.work_digest, str(features_home))
    if output.is_local and not os.path.lexists(work.url):  # else the work may be to be finished
        require_free(output, overwrite=request.overwrite)
    try:
        with exclusive(work, output):
            manifest = was_published(work, output)
            if manifest is None:
                _require_free(output, work, overwrite=request.overwrite)
                manifest = _scored(
                    work.begin(plan), release, model_folder, request, configuration, work, watch
                )
                publish(work, output, manifest, overwrite=request.overwrite)
            finish(work, output)
    except OSError as error:
        raise explained(error, output.url) from error
    return manifest


def _begun(output: Folder, request: JobRequest) -> list[Plan]:
    """Of jobs towards the output. Where there is none a result that has to stay is told at once,
    before the rows of a large CSV are counted."""
    try:
        works = works_of(output)
        if not works and read_manifest(output) is not None:
            require_free(output, overwrite=request.overwrite)
        return [plan for work in works if (plan := work.plan())]
    except OSError as error:
        raise explained(error, output.url) from error


def _require_free(output: Folder, work: Work, *, overwrite: bool) -> None:
    try:
        require_free(output, overwrite=overwrite, work=work)
    except OutputError:
        if work.plan() is None:  # killed when it had published, and removed all but the lock
            work.remove()
        raise


def _scored(
    plan: Plan,
    release: Release,
    model_folder: Path,
    request: JobRequest,
    configuration: Configuration,
    work: Work,
    watch: Watch | None,
) -> Manifest:
    progress = Progress(plan, work.receipts(plan), watch)
    missing = [part for part in plan.parts if part.index not in progress.receipts]
    contract, model = release.bundle.contract, (model_folder / "model.onnx").read_bytes()
    engine = make_engine(request.engine, configuration)
    if missing:
        engine.run(plan, missing, contract, model, work, progress.done)
    return make_manifest(plan, progress, request, work, contract, model)


def make_engine(name: Literal["local", "ray"], configuration: Configuration) -> BatchEngine:
    """EngineError where it cannot be had."""
    limits = configuration.platform.batch.limits
    if name == "local":
        from orchestration.batch.engines.local import LocalEngine

        return LocalEngine(limits.threads)
    from orchestration.batch.engines.ray import RayEngine

    return RayEngine(limits)
