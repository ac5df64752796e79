"""Keys from a browser's address bar: it can send none but as the password of HTTP Basic.

Taken on the pages that people open, which change nothing: a browser sends the password again by
itself, also when another site's page makes it ask.
"""

import base64
import binascii
from collections.abc import Mapping
from http import HTTPStatus

from bentos.model_server.problems import Problem, unauthorized

_CHALLENGE = ("www-authenticate", 'Basic realm="an API key with scope admin as password"')


def is_page(method: str, path: str) -> bool:
    """Whether a person opens it."""
    return method == "GET" and path.startswith("/v1/drift/")


def with_basic(headers: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
    """The headers with the password of HTTP Basic, if there is one, as X-API-Key."""
    scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
    if b"x-api-key" in headers or scheme.lower() != b"basic":
        return headers
    try:
        _, _, password = base64.b64decode(given, validate=True).partition(b":")
    except binascii.Error:
        return headers
    return {**headers, b"x-api-key": password}


def challenged(problem: Problem) -> Problem:
    """A 401 that makes a browser ask for the key; any other problem as it is."""
    if problem.status != HTTPStatus.UNAUTHORIZED:
        return problem
    asking = unauthorized(problem.detail)
    asking.headers = (_CHALLENGE,)
    return asking
