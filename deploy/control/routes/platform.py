"""`/v1/alerts` and `/v1/health`."""

from fastapi import APIRouter
from starlette.responses import Response

from deploy.control.control import Controls
from deploy.control.documents import Alerts, Health
from deploy.control.openapi import answers
from deploy.control.replies import reply

router = APIRouter(tags=["platform"])


@router.get("/alerts", responses=answers(Alerts, "All of them."))
def read_alerts(control: Controls) -> Response:
    """The limits that are passed now, and those that were lately."""
    return reply(Alerts(tuple(control.alerts())))


# A coroutine: it needs none of the threads that changes may hold.
@router.get("/health", responses=answers(Health, "It answers."), openapi_extra={"security": []})
async def read_health() -> Response:
    """Whether the control process answers; needs no key."""
    return reply(Health())
