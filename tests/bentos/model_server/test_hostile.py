"""What a hostile client sends over a real socket is refused, and the others notice nothing."""

import gzip
import pickle
import select
import socket
import time
from collections.abc import Iterator

import httpx
import msgspec
import pytest

from bentos.model_server.bundle import Limits
from bentos.model_server.contract import TextPreprocessing
from bentos.model_server.session import ModelSession
from tests.bentos.model_server import models
from tests.bentos.model_server.clients import JSON, PROBLEM, served

GOOD = b'{"features":{"sepal_length":5.1,"sepal_width":3.5,"petal_length":1.4,"petal_width":0.2}}'
DEEP = 250_000


@pytest.fixture(scope="module")
def port(iris: models.Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    limits = Limits(max_body_bytes=2 << 20)
    with served(iris, tmp_path_factory.mktemp("iris"), limits) as (port, _):
        yield port


@pytest.fixture(autouse=True)
def neighbour(port: int) -> Iterator[httpx.Client]:
    """Somebody else, whose connection is there before and serves him after."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        assert client.post("/predict", content=GOOD, headers=JSON).status_code == 200
        yield client
        assert client.post("/predict", content=GOOD, headers=JSON).status_code == 200
        assert client.get("/ready").status_code == 200


BODIES = {
    "arrays in arrays": b'{"features":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "objects in objects": b'{"":' * DEEP + b"}" * (DEEP // 5),
    "arrays that never close": b"[" * DEEP,
    "a number of a million digits": b'{"features":{"sepal_length":' + b"9" * 1_000_000 + b"}}",
    "an exponent beyond everything": GOOD.replace(b"0.2", b"1e99999999"),
    "not UTF-8": GOOD.replace(b"sepal_width", b"sepal\xff"),
    "a lone surrogate": GOOD.replace(b"sepal_width", b"\\ud800"),
    "a NUL": GOOD + b"\0",
    "nothing": b"",
    "many keys": b'{"features":{' + b",".join(b'"k%d":1' % i for i in range(60_000)) + b"}}",
    "one key many times": b'{"features":{' + b",".join([b'"sepal_length":1'] * 40_000) + b"}}",
}


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/v2/models/iris/infer"])
@pytest.mark.parametrize("what", BODIES)
def test_a_body_made_to_hurt_is_a_client_error(
    path: str, what: str, neighbour: httpx.Client
) -> None:
    response = neighbour.post(path, content=BODIES[what], headers=JSON)
    assert response.status_code in (400, 422), response.text
    assert response.headers["content-type"] == PROBLEM
    assert len(response.content) < 20_000


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/octet-stream", pickle.dumps({"features": {}})),
        ("application/x-python-pickle", pickle.dumps([1])),
        ("application/x-www-form-urlencoded", b"sepal_length=5.1"),
        ("multipart/form-data; boundary=x", b"--x--"),
        ("text/plain", GOOD),
    ],
)
def test_what_is_not_json_is_not_read(kind: str, body: bytes, neighbour: httpx.Client) -> None:
    response = neighbour.post("/predict", content=body, headers={"content-type": kind})
    assert response.status_code == 415


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/v2/models/iris/infer"])
def test_a_gzip_bomb_is_not_unpacked(path: str, neighbour: httpx.Client) -> None:
    bomb = gzip.compress(b" " * (50 << 20))
    headers = JSON | {"content-encoding": "gzip"}
    assert neighbour.post(path, content=bomb, headers=headers).status_code == 415


def test_a_hundred_megabytes_are_refused_before_they_are_sent(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(
            b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: 104857600\r\n\r\n"
        )
        assert client.recv(4096).startswith(b"HTTP/1.1 413")


def test_chunks_without_end_are_cut_at_the_limit(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(
            b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        sent = 0
        try:
            while sent < (64 << 20):
                client.sendall(chunk)
                sent += len(chunk)
        except OSError:  # the server has closed the connection
            pass
    assert sent < (16 << 20)  # what the kernel's buffers hold beyond the limit of 1 MB


MALFORMED = [
    b"\r\n\r\n\r\n",
    b"GET\r\n\r\n",
    b"POST /predict HTTP/9.9\r\n\r\n",
    b"POST /predict HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
    b"POST /predict HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n12345",
    b"POST /predict HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nbad header\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nx: a\0b\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64,  # TLS on a plain port
    bytes(range(256)) * 16,
]


@pytest.mark.parametrize("data", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_http_is_a_400_or_a_closed_connection(data: bytes, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while part := client.recv(4096):
            answer += part
    assert not answer or answer.startswith(b"HTTP/1.1 400")


def test_unfinished_bodies_of_many_clients_do_not_fill_the_memory(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bentos.model_server.asgi.MAX_HELD_BYTES", 3_000_000)
    head = (
        b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"content-length: 1000001\r\n\r\n"
    )
    slow = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(4)]
    try:
        for client in slow:
            client.sendall(head + b" " * 1_000_000)
        answered, _, _ = select.select(slow, [], [], 20)
        assert answered[0].recv(4096).startswith(b"HTTP/1.1 503")
        assert len(answered) == 1
    finally:
        for client in slow:
            client.close()


def test_a_header_without_end_is_refused(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(b"GET /ready HTTP/1.1\r\nhost: x\r\nx-long: ")
        sent = 0
        try:
            while sent < (8 << 20):
                client.sendall(b"x" * 65_536)
                sent += 65_536
        except OSError:
            pass
    assert sent < (8 << 20)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(b"GET /ready HTTP/1.1\r\nhost: x\r\nx-long: " + b"x" * 70_000)
        assert client.recv(4096).startswith(b"HTTP/1.1 431 ")


def test_headers_that_do_not_come_end_the_connection(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bentos.model_server.http_protocol.HEADERS_SECONDS", 0.2)
    silent = socket.create_connection(("127.0.0.1", port), timeout=20)
    slow = socket.create_connection(("127.0.0.1", port), timeout=20)
    slow.sendall(b"POST /predict HTTP/1.1\r\nhost:")
    for client in (silent, slow):
        assert client.recv(4096) == b""
        client.close()


def test_a_body_that_takes_its_time_is_not_taken_for_headers(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bentos.model_server.http_protocol.HEADERS_SECONDS", 0.0)
    head = (
        b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n" % len(GOOD)
    )
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(head + GOOD[:20])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as silent:
            assert silent.recv(4096) == b""  # the watch has looked
        client.sendall(GOOD[20:])
        assert client.recv(4096).startswith(b"HTTP/1.1 200")


def test_a_length_of_thousands_of_digits_is_too_large(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(
            b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: " + b"0" * 5000 + b"5\r\n\r\n12345"
        )
        assert client.recv(4096).startswith(b"HTTP/1.1 413")


def test_marks_upon_marks_in_a_text_take_no_time(tmp_path_factory: pytest.TempPathFactory) -> None:
    text = models.spam()
    steps = TextPreprocessing(lowercase=True, strip_accents=True)
    inputs = tuple(msgspec.structs.replace(i, text=steps) for i in text.contract.inputs)
    session = ModelSession(text.onnx, msgspec.structs.replace(text.contract, inputs=inputs))
    started = time.process_time()
    session.predict([("win cash now" + "\u0301\u0323" * 200_000,)])
    assert time.process_time() - started < 5  # minutes, were they sorted


def test_clients_that_stop_in_the_middle_of_a_body_stop_nobody_else(
    port: int, neighbour: httpx.Client
) -> None:
    head = (
        b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n" % len(GOOD)
    )
    slow = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(200)]
    try:
        for client in slow:
            client.sendall(head + GOOD[:20])
        assert neighbour.post("/predict", content=GOOD, headers=JSON).status_code == 200
        slow[0].sendall(GOOD[20:])
        assert slow[0].recv(4096).startswith(b"HTTP/1.1 200")
    finally:
        for client in slow:
            client.close()
