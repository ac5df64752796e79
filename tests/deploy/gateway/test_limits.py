"""What a hostile client gets from a real Envoy, and that others notice nothing of it."""

import select
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from deploy.home import Home
from tests.deploy.gateway.limited import LIMITS, MAX_BODY, SERVERS, Running, answer, limited_gateway
from tests.deploy.gateway.running import ADMIN_IS_ASKED_TOO_EARLY, problem, until

pytestmark = ADMIN_IS_ASKED_TOO_EARLY


@pytest.fixture(scope="module")
def gateway(home: Home) -> Iterator[Running]:
    with limited_gateway(home) as running:
        yield running


@pytest.fixture
def other(gateway: Running) -> Iterator[httpx.Client]:
    """Somebody else, who gets an answer before and after whatever the test does."""
    with gateway.client() as client:
        assert client.get("/models/rose/predict").status_code == 200
        yield client
        assert client.get("/models/rose/predict").status_code == 200


@pytest.mark.parametrize("header", ["x-api-key", "authorization"])
def test_a_key_that_asks_too_often_is_refused_and_told_when_to_come_back(
    header: str, gateway: Running, other: httpx.Client
) -> None:
    headers = {header: f"Bearer slipway_often_{header}"}
    with gateway.client() as client:
        answers = [client.get("/predict", headers=headers) for _ in range(12)]
        first, last = answers[0], answers[-1]
        assert [item.status_code for item in answers[:5]] == [200] * 5
        assert first.headers["ratelimit-limit"] == "5"
        assert first.headers["ratelimit-remaining"] == "4"
        assert "too many requests with this key" in problem(last, 429)["detail"]
        assert last.headers["ratelimit-limit"] == "5"
        assert last.headers["ratelimit-remaining"] == "0"
        assert last.headers["ratelimit-reset"] == last.headers["retry-after"] == "1"
        assert not [name for name in last.headers if name.startswith("x-ratelimit")]
        # Neither does it keep others behind the same address, nor get around it elsewhere.
        assert client.get("/predict", headers={header: "slipway_other"}).status_code == 200
    assert other.get("/predict", headers=headers).status_code == 429


def test_a_client_that_invents_keys_is_held_by_its_address(
    gateway: Running, other: httpx.Client
) -> None:
    with gateway.client() as client:
        answers = [
            client.get("/predict", headers={"x-api-key": f"slipway_{number}"})
            for number in range(45)
        ]
    assert [item.status_code for item in answers[:30]] == [200] * 30
    problem(answers[-1], 429)
    assert answers[-1].headers["ratelimit-limit"] == "30"


def test_an_address_cannot_be_made_up(gateway: Running, other: httpx.Client) -> None:
    with gateway.client("127.0.0.77") as client:
        answers = [
            client.get("/predict", headers={"x-forwarded-for": f"10.0.0.{number}"})
            for number in range(45)
        ]
    assert answers[-1].status_code == 429
    assert gateway.logged(answers[-1].headers["x-request-id"])["client"] == "127.0.0.77"
    # The model server is told who asks, too: a client on this machine needs no key there.
    assert answers[0].json()["headers"]["x-forwarded-for"] == "127.0.0.77"


def test_a_key_longer_than_any_of_ours_is_told_apart_by_its_beginning(gateway: Running) -> None:
    with gateway.client() as client:
        answers = [
            client.get("/predict", headers={"x-api-key": "x" * 100 + str(number)})
            for number in range(12)
        ]
    assert answers[-1].status_code == 429
    assert answers[-1].headers["ratelimit-limit"] == "5"


def test_paths_that_there_are_not_count_too(gateway: Running, other: httpx.Client) -> None:
    with gateway.client() as client:
        statuses = [client.get("/models/none/predict").status_code for _ in range(45)]
    assert set(statuses[:30]) == {404}
    assert statuses[-1] == 429


@pytest.mark.parametrize(
    "headers",
    [{"x-long": "x" * 9000}, {f"x-{number}": "1" for number in range(20)}],
    ids=["too long", "too many"],
)
def test_headers_beyond_the_limit_are_431(
    headers: dict[str, str], gateway: Running, other: httpx.Client
) -> None:
    with gateway.client() as client:
        response = client.get("/predict", headers=headers)
    # Envoy has not got as far as the request's id.
    assert response.status_code == 431
    assert response.headers["content-type"] == "application/problem+json"
    assert (
        response.json()["detail"] == "the request's headers are larger than 8 KiB, or more than 20"
    )


def test_a_body_that_is_declared_too_large_is_413_before_it_is_sent(
    gateway: Running, other: httpx.Client
) -> None:
    head = b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n"
    refused = gateway.said(head % (MAX_BODY + 1))
    assert problem(refused, 413)["detail"] == "the request's body is larger than 100000 bytes"
    with gateway.client() as client:
        assert client.post("/predict", content="x" * MAX_BODY).status_code == 200


def test_a_body_without_an_end_is_413_as_soon_as_it_is_too_large(
    gateway: Running, other: httpx.Client
) -> None:
    head = b"POST /predict HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    with gateway.connection(head) as connection:
        chunk = b"2710\r\n%s\r\n" % (b"x" * 10_000)
        connection.sendall(chunk * 11)
        problem(answer(connection), 413)


@pytest.mark.parametrize(
    "data",
    [
        b"GET /predict HTTP/1.1\r\nhost: a\r\n",
        b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n{",
    ],
    ids=["headers", "body"],
)
def test_a_request_that_does_not_arrive_is_408_while_others_are_answered(
    data: bytes, gateway: Running, other: httpx.Client
) -> None:
    with gateway.connection(data) as connection:
        assert other.get("/predict").status_code == 200
        refused = answer(connection)
    assert refused.status_code == 408
    assert refused.headers["content-type"] == "application/problem+json"
    assert "its headers may take 1 s, all of it 1.5 s" in refused.json()["detail"]


def test_two_lengths_are_not_smuggled_through(gateway: Running, other: httpx.Client) -> None:
    refused = gateway.said(
        b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n"
        b"transfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\nhost: a\r\n\r\n"
    )
    assert refused.status_code == 400
    assert refused.headers["connection"] == "close"


def test_connections_beyond_the_limit_are_closed_at_once(
    gateway: Running, other: httpx.Client
) -> None:
    with ExitStack() as stack:
        connections = [
            stack.enter_context(gateway.connection(b"")) for _ in range(LIMITS.max_connections)
        ]
        # Some came too late; who was there before goes on, and so does the platform.
        closed, _, _ = select.select(connections, [], [], 15)
        assert closed
        assert {connection.recv(1) for connection in closed} == {b""}
        assert other.get("/predict").status_code == 200
        assert gateway.admin.ready()

    def answered() -> bool:
        try:
            with gateway.client() as client:
                return client.get("/predict").status_code == 200
        except httpx.HTTPError:
            return False

    until(answered)


def test_a_server_with_enough_in_flight_refuses_at_once_and_the_other_model_goes_on(
    gateway: Running, other: httpx.Client
) -> None:
    most = LIMITS.max_requests_per_server
    with gateway.client() as client, ThreadPoolExecutor(most) as threads:
        try:
            held = [threads.submit(client.get, "/slow") for _ in range(most)]
            until(lambda: gateway.admin.active_requests(SERVERS["iris"]) == most)
            refused = client.get("/predict")
            assert refused.elapsed.total_seconds() < 1
            body = problem(refused, 503)
            assert body["detail"] == "3 requests are in flight to this model: try again"
            assert refused.headers["retry-after"] == "1"
            assert other.get("/models/rose/predict").status_code == 200
        finally:
            gateway.iris.release.set()
        assert [item.result().status_code for item in held] == [200] * most
        gateway.iris.release.clear()


def test_a_server_that_does_not_answer_in_time_is_504(
    gateway: Running, other: httpx.Client
) -> None:
    # Envoy's own switches are out of a client's reach.
    with gateway.client() as client:
        response = client.get("/slow", headers={"x-envoy-upstream-rq-timeout-ms": "1"})
    gateway.iris.release.set()
    gateway.iris.release.clear()
    assert response.elapsed.total_seconds() > 1
    body = problem(response, 504)
    assert body["detail"] == "the model server gave no answer within 2 s"
