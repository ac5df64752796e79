"""The short way through the locked uvicorn, against ASGI's own: over real sockets."""

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bentos.model_server import uvicorn_request
from bentos.model_server.bundle import Limits
from tests.bentos.model_server import models
from tests.bentos.model_server.clients import served

ROW = b'{"features":{"sepal_length":5.1,"sepal_width":3.5,"petal_length":1.4,"petal_width":0.2}}'


@pytest.fixture(scope="module")
def iris_port(iris: models.Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with served(iris, tmp_path_factory.mktemp("iris")) as (port, _):
        yield port


def post(body: bytes, *headers: str, method: str = "POST", path: str = "/predict") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: x", "content-type: application/json", *headers]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


def exchange(port: int, *parts: bytes, answers: int = 1) -> list[bytes]:
    """Send the parts as packets of their own and read that many answers."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            client.sendall(part)
        with client.makefile("rb") as file:
            return [_answer(file.readline, file.read) for _ in range(answers)]


def _answer(readline: object, read: object) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += readline()  # type: ignore[operator]
    length = re.search(rb"content-length: (\d+)", head)
    assert length is not None
    return head + bytes(read(int(length[1])))  # type: ignore[operator]


def without_date(answer: bytes) -> list[bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"date: ")]
    assert len(lines) == len(head.split(b"\r\n")) - 1
    return [lines[0], *sorted(lines[1:]), body]


def test_the_locked_uvicorn_is_the_one_that_is_known() -> None:
    assert uvicorn_request.KNOWN is not None


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/predict", ROW, b"200 OK"),
        ("POST", "/predict", b"{", b"400 Bad Request"),
        ("POST", "/predict", b"{}", b"422 Unprocessable "),
        ("GET", "/predict", b"", b"405 Method Not Allowed"),
        ("GET", "/", b"", b"307 Temporary Redirect"),
        ("GET", "/nowhere", b"", b"404 Not Found"),
    ],
)
def test_both_ways_answer_with_the_same_bytes(
    method: str,
    path: str,
    body: bytes,
    status: bytes,
    iris_port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[bool] = []
    write = uvicorn_request.write

    def seen(*args: object) -> bool:
        taken.append(write(*args))  # type: ignore[arg-type]
        return taken[-1]

    monkeypatch.setattr(uvicorn_request, "write", seen)
    request = post(body, "x-request-id: same", method=method, path=path)
    short = exchange(iris_port, request)[0]
    assert taken == [True]
    monkeypatch.setattr(uvicorn_request, "KNOWN", None)
    long = exchange(iris_port, request)[0]
    assert taken == [True]
    assert without_date(short) == without_date(long)
    assert short.startswith(b"HTTP/1.1 " + status)


def test_pipelined_requests_are_answered_in_their_order(iris_port: int) -> None:
    requests = [post(ROW, f"x-request-id: {number}") for number in range(20)]
    answers = exchange(iris_port, b"".join(requests), answers=20)
    assert [re.search(rb"x-request-id: (\d+)", answer)[1] for answer in answers] == [  # type: ignore[index]
        b"%d" % number for number in range(20)
    ]


def test_a_body_in_many_packets_is_one_body(iris_port: int) -> None:
    request = post(ROW)
    parts = [request[i : i + 7] for i in range(0, len(request), 7)]
    assert b'"prediction":"setosa"' in exchange(iris_port, *parts)[0]


def test_a_client_that_asks_to_close_is_closed(iris_port: int) -> None:
    with socket.create_connection(("127.0.0.1", iris_port), timeout=20) as client:
        client.sendall(post(ROW, "connection: close"))
        with client.makefile("rb") as file:
            answer = file.read()  # to the end of the connection
    assert b"connection: close" in answer
    assert answer.endswith(b"}")


def test_a_draining_server_closes_its_connections(iris: models.Parts, tmp_path: Path) -> None:
    with served(iris, tmp_path) as (port, lifecycle):
        lifecycle.drain()
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(post(ROW))
            with client.makefile("rb") as file:
                answer = file.read()
    assert b"200 OK" in answer
    assert b"connection: close" in answer


def test_head_has_the_length_and_no_body(iris_port: int) -> None:
    with socket.create_connection(("127.0.0.1", iris_port), timeout=20) as client:
        client.sendall(post(b"", "connection: close", method="HEAD", path="/health"))
        with client.makefile("rb") as file:
            assert file.read().endswith(b"\r\n\r\n")
    get = exchange(iris_port, post(b"", method="GET", path="/health"))[0]
    assert get.endswith(b'{"status":"alive"}')


def test_expect_continue_is_answered_before_the_body_is_sent(iris_port: int) -> None:
    head, _, body = post(ROW, "expect: 100-continue").partition(b"\r\n\r\n")
    with socket.create_connection(("127.0.0.1", iris_port), timeout=20) as client:
        client.sendall(head + b"\r\n\r\n")
        with client.makefile("rb") as file:
            assert file.readline() == b"HTTP/1.1 100 Continue\r\n"
            assert file.readline() == b"\r\n"
            client.sendall(body)
            assert file.readline() == b"HTTP/1.1 200 OK\r\n"


def test_a_client_that_leaves_while_it_waits_is_noticed(
    iris: models.Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the batcher asks before it computes: uvicorn says so once the socket is closed."""
    with served(iris, tmp_path) as (port, lifecycle):
        model = lifecycle.model
        assert model is not None
        left = threading.Event()
        started = threading.Event()

        async def infer(rows: object, request: object) -> object:
            started.set()
            while not request.gone():  # type: ignore[attr-defined]
                await asyncio.sleep(0)
            left.set()
            raise AssertionError("nobody waits for this")

        monkeypatch.setattr(model, "infer", infer)
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(post(ROW))
            assert started.wait(20)
        assert left.wait(20)


def test_more_requests_than_the_limit_are_refused_at_once_and_readiness_stays(
    iris: models.Parts, tmp_path: Path
) -> None:
    with (
        served(iris, tmp_path, Limits(max_concurrency=1)) as (port, _),
        socket.create_connection(("127.0.0.1", port), timeout=20) as slow,
    ):
        request = post(ROW, "expect: 100-continue")
        slow.sendall(request[:-10])
        with slow.makefile("rb") as file:
            assert file.readline() == b"HTTP/1.1 100 Continue\r\n"  # it is in hand now
            refused = exchange(port, post(ROW))[0]
            assert refused.startswith(b"HTTP/1.1 503")
            assert b"retry-after: 1\r\n" in refused
            assert b"urn:slipway:problem:overloaded" in refused
            assert exchange(port, post(b"", method="GET", path="/ready"))[0].startswith(
                b"HTTP/1.1 200"
            )
            slow.sendall(request[-10:])
            assert file.readline() == b"\r\n"
            assert file.readline() == b"HTTP/1.1 200 OK\r\n"
        assert exchange(port, post(ROW))[0].startswith(b"HTTP/1.1 200")
        metrics = exchange(port, post(b"", method="GET", path="/metrics"))[0]
        assert b'slipway_shed_total{limit="concurrency"} 1.0' in metrics
