"""Whom the load goes to: asked once before it is sent, so that a mistake is one sentence."""

import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from orchestration.load_test.connection import Address
from orchestration.load_test.errors import LoadTestError
from orchestration.load_test.rows import Row, bodies, http_request

_TIMEOUT_SECONDS = 10
_VISIBLE = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class Target:
    """A model behind a URL, below which `/predict` and `/model/info` lie.

    start_hint: how what should answer there is started. headers: with the key.
    """

    model: str
    url: httpx.URL
    headers: dict[str, str] = field(repr=False)
    start_hint: str
    tls: ssl.SSLContext | None


@dataclass(frozen=True)
class Found:
    """What to send where. environment: None where nobody named one."""

    address: Address
    requests: list[bytes] = field(repr=False)
    environment: str | None


def target(
    model: str,
    url: str,
    *,
    environment: str | None,
    version: str | None,
    key: str | None,
    start_hint: str,
) -> Target:
    """Check what a user gave. LoadTestError never repeats the key."""
    headers = {
        "content-type": "application/json",
        "user-agent": "slipway-load-test",
        "x-environment": environment,
        "x-model-version": version,
        "x-api-key": key,
    }
    given = {name: value for name, value in headers.items() if value}
    for name, value in given.items():
        if not _VISIBLE.fullmatch(value):
            raise LoadTestError(f"the value of {name} has blanks or other than ASCII characters")
    parsed = _url(url)
    tls = ssl.create_default_context() if parsed.scheme == "https" else None
    host = {"host": parsed.netloc.decode()}
    return Target(model, parsed, host | given, start_hint, tls)


def _url(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url.rstrip("/"))
    except httpx.InvalidURL as error:
        raise LoadTestError(f"--url {url}: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise LoadTestError(f"--url {url}: expected http://host:port/path or https://…")
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise LoadTestError(
            f"--url {parsed.copy_with(userinfo=b'')}: no user, query or fragment; "
            "a key goes into SLIPWAY_API_KEY"
        )
    return parsed


def ask(target: Target, rows: Sequence[Row] | None, size: int) -> Found:
    """What the target serves, and the requests to send, the first of which it took.

    rows: None for the contract's example. size: rows in a request.
    """
    with _client(target) as client:
        info = client.get(f"{target.url}/model/info")
        if info.status_code != httpx.codes.OK:
            raise LoadTestError(_refusal(target, info))
        example = _described(target, info)
        path, contents = bodies(rows or [example], size)
        answer = client.post(f"{target.url}{path}", content=contents[0])
    if not answer.is_success and answer.status_code not in (429, 503):  # those are load
        raise LoadTestError(f"the first request is refused: {_refusal(target, answer)}")
    base = target.url.raw_path.decode().rstrip("/")
    return Found(
        _address(target),
        [http_request(base + path, target.headers, body) for body in contents],
        info.headers.get("x-environment", target.headers.get("x-environment")),
    )


@contextmanager
def _client(target: Target) -> Iterator[httpx.Client]:
    """Without the proxies of the environment: the load goes straight there, too."""
    try:
        with httpx.Client(
            headers=target.headers,
            verify=target.tls or True,
            trust_env=False,
            timeout=_TIMEOUT_SECONDS,
        ) as client:
            yield client
    except httpx.HTTPError as error:
        text = str(error) or type(error).__name__
        raise LoadTestError(f"{target.url} does not answer ({text}): {target.start_hint}") from None


def _described(target: Target, info: httpx.Response) -> Row:
    """The example of the contract; LoadTestError where it is another model's, or no contract."""
    try:
        found = info.json()
        name, example = found["name"], found["contract"]["example"]
    except (ValueError, KeyError, TypeError):
        raise LoadTestError(
            f"{target.url}/model/info is not a model server's answer; --url is the address below "
            "which /predict lies: http://gateway/models/<model>, or a model server's own"
        ) from None
    if name != target.model:
        raise LoadTestError(f"{target.url} serves {name}, not {target.model}")
    row: Row = example
    return row


def _refusal(target: Target, response: httpx.Response) -> str:
    """A problem document as one sentence."""
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = response.text[:200] or response.reason_phrase
    hints: dict[int, str] = {
        httpx.codes.UNAUTHORIZED: "; give a key by SLIPWAY_API_KEY",
        httpx.codes.SERVICE_UNAVAILABLE: f"; `slipway release {target.model}`, or wait for it",
    }
    hint = hints.get(response.status_code, "")
    return f"{response.request.url} answers {response.status_code}: {detail}{hint}"


def _address(target: Target) -> Address:
    """One that takes a connection: a name may stand for several."""
    url = target.url
    port = url.port or (443 if target.tls else 80)
    try:
        with socket.create_connection((url.host, port), _TIMEOUT_SECONDS) as probe:
            host = probe.getpeername()[0]
    except OSError as error:
        raise LoadTestError(f"{url} takes no connection: {error}") from error
    return Address(host, port, target.tls, url.host)
