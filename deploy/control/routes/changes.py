"""`POST /v1/models/{model}/…`: load, promote, roll back, retire."""

from fastapi import APIRouter, Depends
from starlette.responses import Response

from deploy.again import roll_back
from deploy.control.bodies import PRODUCTION, Load, Promote, Retire, Rollback, label
from deploy.control.control import Callers, Controls, no_query, one_change
from deploy.control.documents import Changed, Started
from deploy.control.openapi import changes
from deploy.control.replies import changed, log, reply
from deploy.dagster_names import ACTOR_TAG, POLICY_TAG, job_name, partitions_name
from deploy.versions import built_release

router = APIRouter(
    prefix="/models/{model}",
    tags=["releases"],
    dependencies=[Depends(no_query), Depends(one_change)],
)


@router.post("/load", **changes(Changed, "It is up and ready."))
def load(model: str, body: Load, control: Controls, caller: Callers) -> Response:
    """Bring up a verified version beside the live ones, with weight 0. Takes seconds."""
    state = control.state(body.environment, model)
    expected = caller.expected(state)
    release = built_release(control.home, model, label(body.version))
    event = control.traffic.load(release, body.environment, caller.actor, expected)
    return changed(event, caller)


@router.post("/promote", **changes(Started, "The Dagster run that does it.", status=202))
def promote(model: str, body: Promote, control: Controls, caller: Callers) -> Response:
    """Release a version to production by its policy, or by the one that you name."""
    caller.expected(control.state(PRODUCTION, model))
    partition = label(body.version)
    built_release(control.home, model, partition).require_certificate(PRODUCTION)
    tags = {ACTOR_TAG: caller.name}
    if body.policy is not None:
        tags[POLICY_TAG] = body.policy
    control.dagster.add_partition(partitions_name(model), partition)
    run_id = control.dagster.launch(job_name(model, PRODUCTION), partition, tags)
    log(caller, "promote", PRODUCTION, model, f"v{partition} by run {run_id}")
    started = Started(run_id, f"{control.dagster.url}/runs/{run_id}")
    return reply(started, 202, {"Location": started.url})


@router.post("/rollback", **changes(Changed, "All traffic is back."))
def rollback(model: str, body: Rollback, control: Controls, caller: Callers) -> Response:
    """All traffic back to the last version that was healthy, at once."""
    expected = caller.expected(control.state(body.environment, model))
    event = roll_back(
        control.traffic,
        body.environment,
        model,
        caller.actor,
        body.reason,
        expected,
        again=body.again,
    )
    return changed(event, caller)


@router.post("/retire", **changes(Changed, "Its server is gone."))
def retire(model: str, body: Retire, control: Controls, caller: Callers) -> Response:
    """Let a live version without traffic go: its requests in flight end, then its server."""
    expected = caller.expected(control.state(body.environment, model))
    event = control.traffic.retire(
        body.environment, model, label(body.version), caller.actor, expected
    )
    return changed(event, caller)
