"""Which problem an exception is to the client."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from bentos.model_server import problems
from bentos.model_server.certificate import CertificateError
from bentos.model_server.problems import FieldError, Problem, clean, unavailable
from deploy.again import RolledBackAlreadyError
from deploy.artifacts.errors import ArtifactsError, StoreError
from deploy.batch_jobs import BatchRecordError
from deploy.control.alert import AlertsError
from deploy.control.control import refused
from deploy.dagster_client import DagsterError
from deploy.events import LedgerConflictError, LedgerError, ReleaseInProgressError
from deploy.findings import FindingsError
from deploy.gateway.envoy import GatewayError
from deploy.keys import KeyStoreError
from deploy.predictions.labels import LabelError
from deploy.receipts import UnknownRequestError
from deploy.release import ReleaseError
from deploy.supervision import SupervisorError
from deploy.targets.base import TargetError
from deploy.traffic import NothingToRollBackToError, TrafficError
from deploy.versions import MissingFileError

_RETRY_SECONDS = 2
# The first that fits counts.
_KINDS: tuple[tuple[type[Exception], HTTPStatus, str], ...] = (
    (NothingToRollBackToError, HTTPStatus.CONFLICT, "nothing-to-roll-back-to"),
    (RolledBackAlreadyError, HTTPStatus.CONFLICT, "rolled-back-already"),
    (TrafficError, HTTPStatus.UNPROCESSABLE_ENTITY, "impossible-change"),
    (ReleaseInProgressError, HTTPStatus.CONFLICT, "release-in-progress"),
    (LedgerConflictError, HTTPStatus.CONFLICT, "changed-meanwhile"),
    (UnknownRequestError, HTTPStatus.NOT_FOUND, "unknown-request"),
    (MissingFileError, HTTPStatus.NOT_FOUND, "unknown-version"),
    (CertificateError, HTTPStatus.CONFLICT, "not-certified"),
    (ReleaseError, HTTPStatus.CONFLICT, "bento-changed"),
    (StoreError, HTTPStatus.SERVICE_UNAVAILABLE, "artifacts-unavailable"),
    (ArtifactsError, HTTPStatus.CONFLICT, "artifact-damaged"),
    (LedgerError, HTTPStatus.SERVICE_UNAVAILABLE, "ledger-unavailable"),
    (GatewayError, HTTPStatus.SERVICE_UNAVAILABLE, "gateway-unavailable"),
    (TargetError, HTTPStatus.SERVICE_UNAVAILABLE, "target-unavailable"),
    (SupervisorError, HTTPStatus.SERVICE_UNAVAILABLE, "supervisor-unavailable"),
    (DagsterError, HTTPStatus.SERVICE_UNAVAILABLE, "dagster-unavailable"),
    (FindingsError, HTTPStatus.SERVICE_UNAVAILABLE, "finding-damaged"),
    (AlertsError, HTTPStatus.SERVICE_UNAVAILABLE, "alerts-damaged"),
    (BatchRecordError, HTTPStatus.SERVICE_UNAVAILABLE, "batch-job-damaged"),
    (LabelError, HTTPStatus.SERVICE_UNAVAILABLE, "labels-unavailable"),
    (KeyStoreError, HTTPStatus.SERVICE_UNAVAILABLE, "keys-unavailable"),
)
logger = logging.getLogger("slipway.control")


def problem_of(error: Exception, path: str, *, conditional: bool) -> Problem:
    """conditional: the request had an If-Match. What is not foreseen is logged, and a 500."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, RequestValidationError):
        return refused([_field_error(item) for item in error.errors()])
    if isinstance(error, HTTPException):
        return _http(error, path)
    for kind, status, name in _KINDS:
        if isinstance(error, kind):
            detail = clean(str(error), 2000)
            if status == HTTPStatus.SERVICE_UNAVAILABLE:
                return unavailable(name, detail, _RETRY_SECONDS)
            if kind is LedgerConflictError and conditional:
                status = HTTPStatus.PRECONDITION_FAILED
            return Problem(status, name, detail)
    logger.error("an unexpected error at %s", path, exc_info=error)
    return problems.internal_error()


def _field_error(item: Mapping[str, Any]) -> FieldError:
    place, *rest = item["loc"]
    value = item.get("input")
    given = isinstance(value, str | int | float | None) and item["type"] != "missing"
    shown = f", got {clean(repr(value), 80)}" if given else ""
    field = clean(".".join(str(part) for part in rest), 100) or str(place)
    message = item["msg"].removeprefix("Value error, ")
    return FieldError(field, message[:1].lower() + message[1:] + shown)


def _http(error: HTTPException, path: str) -> Problem:
    if error.status_code == HTTPStatus.NOT_FOUND:
        detail = f"there is no route {clean(path, 200)}; see /v1/openapi.json"
        return Problem(HTTPStatus.NOT_FOUND, "not-found", detail)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "")
        return problems.method_not_allowed("this method", clean(path, 200), allowed)
    return Problem(HTTPStatus(error.status_code), "refused", clean(str(error.detail), 200))
