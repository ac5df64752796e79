"""`/v1/batch-jobs`: a table scored by a verified version, as a Dagster run."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from starlette.responses import Response

from bentos.model_server.problems import FieldError, Problem
from deploy.batch_jobs import (
    BatchJobRecord,
    add_record,
    newest_records,
    read_record,
    records_folder,
    settled,
)
from deploy.batch_locations import LocationError, require_input, require_output
from deploy.control.bodies import BatchJob, label
from deploy.control.control import Callers, Control, Controls, no_query, one_change, refused
from deploy.control.documents import BatchJobs
from deploy.control.openapi import answers
from deploy.control.replies import log, reply
from deploy.dagster_names import ACTOR_TAG, batch_request_job, batch_request_op
from deploy.live import most_traffic
from deploy.phases import find
from deploy.release import PROVING_ENVIRONMENT
from deploy.versions import built_release, live_release

router = APIRouter(tags=["batch jobs"])
_Id = Annotated[str, Path(pattern=r"^[A-Za-z0-9-]{1,64}$")]
_REFUSALS = (400, 404, 408, 409, 413, 415, 422)


@router.post(
    "/batch-jobs",
    status_code=202,
    dependencies=[Depends(no_query), Depends(one_change)],
    responses=answers(BatchJobRecord, "Its run was started.", *_REFUSALS, status=202),
)
def start(body: BatchJob, control: Controls, caller: Callers) -> Response:
    """Score a table by a verified version. Posted again after it was killed, it goes on where it
    stopped."""
    control.require(body.environment, body.model)
    _require_places(body, control)
    _require_verified(body, control)
    request = _request(body, control)
    run_id = control.dagster.launch(
        batch_request_job(body.model),
        None,
        {ACTOR_TAG: caller.name},
        configuration={"ops": {batch_request_op(body.model): {"config": request}}},
    )
    record = BatchJobRecord(
        id=run_id,
        model=body.model,
        version=request.get("version"),
        environment=body.environment,
        input=body.input,
        output=body.output,
        engine=request["engine"],
        actor=caller.name,
        state="queued",
        created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )
    add_record(records_folder(control.home), record)
    log(caller, "batch job", body.environment, body.model, f"{body.output} by run {run_id}")
    return reply(record, 202, {"Location": f"/v1/batch-jobs/{run_id}"})


@router.get("/batch-jobs", responses=answers(BatchJobs, "The newest 100, the newest first."))
def read_jobs(control: Controls) -> Response:
    """What was posted here, and how far it is."""
    folder = records_folder(control.home)
    found = newest_records(folder)
    return reply(BatchJobs(tuple(settled(folder, record, control.dagster) for record in found)))


@router.get("/batch-jobs/{id}", responses=answers(BatchJobRecord, "The job.", 404, 422))
def read_job(id: _Id, control: Controls) -> Response:  # noqa: A002
    """One job: how far it is, and what came of it."""
    folder = records_folder(control.home)
    record = read_record(folder, id)
    if record is None:
        detail = f"there is no batch job {id}; GET /v1/batch-jobs lists the newest"
        raise Problem(HTTPStatus.NOT_FOUND, "unknown-batch-job", detail)
    return reply(settled(folder, record, control.dagster))


def _request(body: BatchJob, control: Control) -> dict[str, Any]:
    """The op's configuration, without what is left out."""
    settings = control.configuration.models[body.model].batch
    given = body.model_dump(exclude={"model"}, exclude_none=True)
    if body.version is not None:
        given["version"] = label(body.version)
    return {"timestamp": settings.timestamp, "engine": settings.engine, **given}


def _require_places(body: BatchJob, control: Control) -> None:
    """All that is wrong with them at once."""
    errors, locations = [], control.configuration.platform.batch.locations
    for name, value, require in (
        ("input", body.input, require_input),
        ("output", body.output, require_output),
    ):
        try:
            require(value, control.home, locations)
        except LocationError as error:
            errors.append(FieldError(name, str(error)))
    if errors:
        raise refused(errors)


def _require_verified(body: BatchJob, control: Control) -> None:
    """Before a run is started for nothing: the job looks again."""
    wanted = None if body.version is None else label(body.version)
    live = control.ledger.state(body.environment, body.model).live
    found = most_traffic(live) if wanted is None else find(live, wanted)
    if found is None and wanted is None:
        raise Problem(
            HTTPStatus.CONFLICT,
            "nothing-live",
            f"{body.environment} serves no version of {body.model}: name one in `version`",
        )
    release = (
        live_release(control.home, found)
        if found is not None
        else built_release(control.home, body.model, str(wanted))
    )
    # What the graph answers has to be proved; how a server answers over HTTP is not asked here.
    release.require_certificate(PROVING_ENVIRONMENT)
