"""Errors as RFC 9457 `application/problem+json`: what went wrong, where, and what was expected."""

from http import HTTPStatus

import msgspec

CONTENT_TYPE = "application/problem+json"
MAX_ERRORS = 20


class FieldError(msgspec.Struct, frozen=True, omit_defaults=True):
    """One refused value. field: its name in the request; row: its index in `instances`."""

    field: str
    message: str
    row: int | None = None


class Document(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of an answer that is an error.

    error: the detail again, where clients of the Open Inference Protocol look for it.
    """

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    instance: str | None = None
    errors: tuple[FieldError, ...] = ()
    error: str | None = None


class Problem(Exception):  # noqa: N818 - the term of RFC 9457
    """An answer that is an error. kind: the last part of `type`, stable for clients to match."""

    def __init__(
        self,
        status: HTTPStatus,
        kind: str,
        detail: str,
        *,
        title: str | None = None,
        errors: tuple[FieldError, ...] = (),
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.title = title or status.phrase
        self.detail = detail
        self.errors = errors
        self.headers = headers

    def encode(self, request_id: str, instance: str) -> bytes:
        """The JSON document. instance: the path of the request."""
        document = Document(
            type=f"urn:slipway:problem:{self.kind}",
            title=self.title,
            status=self.status,
            detail=self.detail,
            request_id=request_id,
            instance=clean(instance, 200),
            errors=self.errors,
            error=self.detail if instance.startswith("/v2") else None,
        )
        return msgspec.json.encode(document)


def clean(text: str, length: int) -> str:
    """A client's text, short and without the lone surrogates that UTF-8 cannot write."""
    cut = text if len(text) <= length else text[:length] + "…"
    return cut.encode("utf-8", "replace").decode()


def malformed(detail: str) -> Problem:
    """400: not JSON at all."""
    return Problem(HTTPStatus.BAD_REQUEST, "malformed-json", detail, title="Malformed JSON")


def unauthorized(detail: str) -> Problem:
    """401 with `WWW-Authenticate`."""
    return Problem(
        HTTPStatus.UNAUTHORIZED,
        "unauthorized",
        detail,
        headers=(("www-authenticate", "Bearer"),),
    )


def forbidden(detail: str) -> Problem:
    """403: a valid key without the scope."""
    return Problem(HTTPStatus.FORBIDDEN, "forbidden", detail)


def not_found(path: str) -> Problem:
    """404, naming where the routes are listed."""
    return Problem(
        HTTPStatus.NOT_FOUND,
        "not-found",
        f"there is no route {clean(path, 200)}; see /openapi.json",
    )


def unknown_model(asked: str, model: str, version: str) -> Problem:
    """404, naming what is served here."""
    return Problem(
        HTTPStatus.NOT_FOUND,
        "unknown-model",
        f"there is no {asked}; this server has {model}, version {version}",
    )


def method_not_allowed(method: str, path: str, allowed: str) -> Problem:
    """405 with `Allow`."""
    return Problem(
        HTTPStatus.METHOD_NOT_ALLOWED,
        "method-not-allowed",
        f"{path} takes {allowed}, not {method}",
        headers=(("allow", allowed),),
    )


def timeout(seconds: float) -> Problem:
    """408: the body did not arrive in time."""
    return Problem(
        HTTPStatus.REQUEST_TIMEOUT,
        "request-timeout",
        f"the request's body did not arrive within {seconds:g} s",
        headers=(("connection", "close"),),
    )


def body_too_large(limit: int, *, close: bool) -> Problem:
    """413. close: the length is unknown, so the connection cannot be used again."""
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "body-too-large",
        f"the request's body is larger than {limit} bytes",
        title="Content Too Large",
        headers=(("connection", "close"),) if close else (),
    )


def too_many_rows(rows: int, limit: int, where: str = "instances") -> Problem:
    """413: a limit of this server, not of the contract."""
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too-many-rows",
        f"{where} has {rows} rows; this server takes at most {limit} in one request",
        title="Content Too Large",
    )


def unsupported_media_type(detail: str) -> Problem:
    """415."""
    return Problem(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "unsupported-media-type",
        detail,
        headers=(("accept", "application/json"),),
    )


def invalid(errors: list[FieldError]) -> Problem:
    """422: the contract refuses the request; at most MAX_ERRORS are listed."""
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid-input",
        _summary(errors),
        title="The contract refuses this input",
        errors=tuple(errors[:MAX_ERRORS]),
    )


def _summary(errors: list[FieldError]) -> str:
    first = errors[0]
    place = first.field if first.row is None else f"row {first.row}, {first.field}"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{place}: {first.message}{more}"


def no_finite_answer(row: int | None) -> Problem:
    """422: the values overflow inside the model, so that its answer is not a number."""
    message = "the model's answer is not a finite number; the values are too extreme for it"
    return invalid(
        [FieldError(field="features" if row is None else "instances", message=message, row=row)]
    )


def unavailable(kind: str, detail: str, retry_after: int | None = None) -> Problem:
    """503. retry_after: seconds, where trying again can help."""
    headers = () if retry_after is None else (("retry-after", str(retry_after)),)
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, kind, detail, headers=headers)


def features_refused(errors: list[FieldError]) -> Problem:
    """422: what the entities stand for is not known, or too old, as the transformer says."""
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "unusable-features",
        _summary(errors),
        title="There are no usable features for these entities",
        errors=tuple(errors[:MAX_ERRORS]),
    )


def features_unavailable(detail: str, retry_after: int = 1) -> Problem:
    """503: no features can be looked up now; a request with all inputs needs none."""
    return unavailable("features-unavailable", detail, retry_after)


def feature_lookup_failed(detail: str, *, answered: bool = True) -> Problem:
    """502: the feature transformer answered with what cannot be used, or not with features."""
    what = "the feature transformer's answer cannot be used" if answered else "no features"
    return Problem(HTTPStatus.BAD_GATEWAY, "feature-lookup-failed", f"{what}: {detail}")


def overloaded(detail: str) -> Problem:
    """503 at once, rather than an answer that comes too late."""
    return unavailable("overloaded", detail, retry_after=1)


def prediction_not_logged() -> Problem:
    """503: the environment demands that every answer is on the disk before it is sent."""
    return unavailable(
        "prediction-not-logged",
        "the answer could not be written to the prediction log, which this environment demands "
        "(durability: durable); the server's log says why",
        retry_after=1,
    )


def too_many_bodies(held: int) -> Problem:
    """503: what is arriving from all clients together would fill the memory."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "overloaded",
        f"{held} bytes of unfinished bodies are being received, which is over the limit",
        headers=(("retry-after", "1"), ("connection", "close")),
    )


def deadline_passed(seconds: float) -> Problem:
    """504: the answer would come too late."""
    return Problem(
        HTTPStatus.GATEWAY_TIMEOUT,
        "deadline-passed",
        f"there was no answer within {seconds:g} s",
        headers=(("retry-after", "1"),),
    )


def inference_failed() -> Problem:
    """500: the model itself fails on these rows, also when they are computed alone."""
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "inference-failed",
        "the model cannot compute these values; the server's log has it under this request_id",
    )


def internal_error() -> Problem:
    """500: what happened is in the server's log under the request id, never in the answer."""
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal-error",
        "an unexpected error; the server's log has it under this request_id",
    )
