"""`/v1/drift/{model}`: what the last look at a model's live traffic found."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from bentos.model_server.problems import Problem
from deploy.control.bodies import Where
from deploy.control.control import Control, Controls
from deploy.control.openapi import answers, page
from deploy.control.replies import reply
from deploy.drift_result import DriftReport, read_drift_report, report_folder

router = APIRouter(tags=["monitoring"])
# Evidently's page has all its scripts and fonts inside. What it shows came from clients: it may
# reach nobody, and is nobody's origin.
_HEADERS = {
    "content-security-policy": (
        "sandbox allow-scripts allow-downloads; default-src 'none'; "
        "script-src 'unsafe-inline' 'unsafe-eval' blob:; style-src 'unsafe-inline'; "
        "img-src data: blob:; font-src data:; worker-src blob:"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_Where = Annotated[Where, Query()]


@router.get(
    "/drift/{model}",
    responses=answers(DriftReport, "The last look.", 404, 422),
)
def read_drift(model: str, where: _Where, control: Controls, request: Request) -> Response:
    """Verdict, scores of the columns, and what is wrong with any; a browser gets the page."""
    environment = _environment(control, model, where)
    if "text/html" in request.headers.get("accept", ""):
        return _page(control, environment, model)
    report = read_drift_report(control.home, environment, model)
    if report is None:
        raise _not_yet(environment, model)
    return reply(report)


@router.get(
    "/drift/{model}/report",
    responses=page("Evidently's page of the last look.", 404, 422),
)
def read_report(model: str, where: _Where, control: Controls) -> Response:
    """Evidently's page of the last look. A browser gives the API key as password."""
    return _page(control, _environment(control, model, where), model)


def _environment(control: Control, model: str, where: Where) -> str:
    environment = where.environment or control.configuration.platform.default_environment
    control.require(environment, model)
    return environment


def _page(control: Control, environment: str, model: str) -> Response:
    path = report_folder(control.home, environment, model) / "latest.html"
    try:
        return Response(path.read_bytes(), headers=_HEADERS, media_type="text/html")
    except FileNotFoundError:
        raise _not_yet(environment, model) from None


def _not_yet(environment: str, model: str) -> Problem:
    return Problem(
        HTTPStatus.NOT_FOUND,
        "no-drift-report",
        f"nobody has looked at {model} in {environment} yet: the schedule does each hour, "
        f"`slipway drift {model} --environment {environment}` does now",
    )
