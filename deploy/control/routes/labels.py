"""`POST /v1/labels`: what turned out to be true of answers."""

from datetime import UTC, datetime

from fastapi import APIRouter, Depends
from starlette.responses import Response

from bentos.model_server.problems import FieldError
from deploy.control.bodies import Labels
from deploy.control.control import Callers, Controls, no_query, one_change, refused
from deploy.control.documents import LabelsTaken
from deploy.control.openapi import answers
from deploy.control.replies import log, reply
from deploy.predictions.labels import Label, append_labels, faults, predicts_numbers

router = APIRouter(tags=["labels"], dependencies=[Depends(no_query), Depends(one_change)])


_REFUSALS = (400, 404, 408, 413, 415, 422)


@router.post(
    "/labels",
    status_code=202,
    responses=answers(LabelsTaken, "They are on the disk.", *_REFUSALS, status=202),
)
def take_labels(body: Labels, control: Controls, caller: Callers) -> Response:
    """Ground truth for answers, by their X-Request-ID. The latest label of a row counts; one whose
    answer is not known (yet) is kept, too."""
    control.require(body.environment, body.model)
    labels = [Label(item.request_id, item.label, item.row) for item in body.labels]
    numbers = predicts_numbers(control.home, body.model)
    if wrong := faults(labels, numbers=numbers):
        raise refused([FieldError(f"labels.{w.index}.{w.field}", w.message) for w in wrong])
    now = datetime.now(UTC)
    append_labels(control.home, body.model, body.environment, labels, caller.name, now)
    log(caller, "labels", body.environment, body.model, f"{len(labels)} labels")
    return reply(LabelsTaken(body.model, body.environment, len(labels)), 202)
