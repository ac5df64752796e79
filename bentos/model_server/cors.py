"""CORS: which web pages of other origins may read this server's answers. Off as shipped.

https://fetch.spec.whatwg.org/#http-cors-protocol. There are no cookies here, so credentials are
never allowed; a page sends its key in a header.
"""

from collections.abc import Mapping, Sequence

from bentos.model_server.asgi import Header, Response

ALLOWED_METHODS = "GET, HEAD, POST"
ALLOWED_HEADERS = (
    "authorization, content-type, inference-header-content-length, traceparent, x-api-key, "
    "x-environment, x-model-version, x-request-id"
)
EXPOSED_HEADERS = (
    "Inference-Header-Content-Length, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, "
    "Retry-After, X-Cache, X-Environment, X-Model-Version, X-Request-ID"
)
# How long a browser need not ask again, in seconds.
MAX_AGE = "600"
PREFLIGHT = Response(
    b"",
    status=204,
    headers=(
        ("access-control-allow-methods", ALLOWED_METHODS),
        ("access-control-allow-headers", ALLOWED_HEADERS),
        ("access-control-max-age", MAX_AGE),
    ),
)


class Cors:
    """origins: scheme://host[:port] as browsers send it, without a default port; or `*`."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._any = "*" in origins
        allowed = {origin.lower().encode() for origin in origins}
        self._allowed = {origin: _headers(origin, _VARY) for origin in allowed}
        self._others = _headers(b"*") if self._any else _VARY

    def headers(self, request_headers: Mapping[bytes, bytes]) -> tuple[Header, ...]:
        """The headers of an answer, beside its others."""
        if self._any:
            return self._others
        return self._allowed.get(request_headers.get(b"origin", b""), self._others)

    def preflight(self, request_headers: Mapping[bytes, bytes]) -> Response | None:
        """The answer to OPTIONS, without `headers`; None unless it is an allowed page's question.

        A page that is not allowed gets what it would without CORS, and its browser asks no more.
        """
        if b"access-control-request-method" not in request_headers:
            return None
        origin = request_headers.get(b"origin")
        known = origin is not None and (self._any or origin in self._allowed)
        return PREFLIGHT if known else None


_VARY: tuple[Header, ...] = ((b"vary", b"origin"),)


def _headers(origin: bytes, more: tuple[Header, ...] = ()) -> tuple[Header, ...]:
    return (
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", EXPOSED_HEADERS.encode()),
        *more,
    )
