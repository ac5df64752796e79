"""`/v1/ledger` and `/v1/predictions/{request_id}`: what happened, and what was behind an answer."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from deploy.control.bodies import History
from deploy.control.control import Controls
from deploy.control.documents import Checked, Events, Receipts
from deploy.control.openapi import answers
from deploy.control.replies import reply
from deploy.events import Event, LedgerError
from deploy.history import serving_at
from deploy.receipts import receipt

router = APIRouter(tags=["ledger"])
_RequestId = Annotated[str, Path(max_length=128, examples=["5f0c2a4e9b7d4c1e8a3f6b2d1c0e9f7a"])]


@router.get("/ledger", responses=answers(Events, "The newest first.", 404, 422))
def read_ledger(history: Annotated[History, Query()], control: Controls) -> Response:
    """Who changed what when, on which evidence."""
    events = control.ledger.events(history.model, history.environment)
    if not events:  # a name that nothing knows is a mistake, and no empty answer
        platform = control.configuration.platform
        models = sorted(control.configuration.models)
        for model in [history.model] if history.model else models[:1]:
            control.require(history.environment or platform.default_environment, model)
    if history.at is not None:
        events = _at(events, history.at)
    return reply(Events(tuple(reversed(events[-history.limit :]))))


def _at(events: Sequence[Event], moment: datetime) -> list[Event]:
    """What led to what each environment served of each model at that moment."""
    found = []
    for key in dict.fromkeys((event.environment, event.model) for event in events):
        own = [event for event in events if (event.environment, event.model) == key]
        if (event := serving_at(own, moment)) is not None:
            found.append(event)
    return found


@router.get("/ledger/check", responses=answers(Checked, "What was found."))
def check_ledger(control: Controls) -> Response:
    """Follow the hash chain from the first event to what serves now."""
    try:
        control.ledger.check()
    except LedgerError as error:
        return reply(Checked(False, str(error)))
    return reply(Checked(True))


@router.get(
    "/predictions/{request_id}", responses=answers(Receipts, "What is known of it.", 404, 422)
)
def read_receipts(request_id: _RequestId, control: Controls) -> Response:
    """From an answer's X-Request-ID: version, MLflow run, digest, certificate, Bento, event."""
    found = receipt(control.home, control.ledger, request_id, control.configuration)
    return reply(Receipts(found))
