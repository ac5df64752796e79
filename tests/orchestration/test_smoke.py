"""The smoke test against a small real server that answers right, or wrong in one way."""

import itertools
import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from bentos.model_server.certificate import Answer, HttpParity
from bentos.model_server.contract import GraphInput, Input
from deploy.targets.base import Endpoint, TargetError
from orchestration.smoke import _percentile, bad_inputs, smoke_test
from tests.deploy.releases import certificate, contract

BENTO = "b" * 64
PROOF = certificate(contract())
KEYS = ("no", "yes")
Reply = tuple[int, Any]
Change = Callable[[str, Any, Reply], Reply]


def unchanged(path: str, request: Any, reply: Reply) -> Reply:
    return reply


def right(path: str, body: Any) -> Reply:
    """What a server of this contract answers: the golden answers, or a refusal."""
    golden = PROOF.golden
    answers = {json.dumps(row): answer for row, answer in zip(golden.rows, golden.single)}  # noqa: B905

    def shown(answer: Answer) -> dict[str, float]:
        return dict(zip(KEYS, answer.probabilities or (), strict=True))

    if path == "/predict/batch":
        found = [answers[json.dumps(row)] for row in body["instances"]]
        return 200, {
            "predictions": [answer.prediction for answer in found],
            "probabilities": [shown(answer) for answer in found],
        }
    answer = answers.get(json.dumps(body.get("features"))) if isinstance(body, dict) else None
    if answer is None:
        return 422, {"title": "Unprocessable"}
    return 200, {
        "prediction": answer.prediction,
        "probabilities": shown(answer),
        "model": {"name": "iris", "version": "1", "variant": "fp32"},
    }


@contextmanager
def serving(change: Change) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """The server's address, and the headers of the requests it gets."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            seen.append({key.lower(): value for key, value in self.headers.items()})
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            path = self.path.removeprefix("/models/iris")
            status, answer = change(path, body, right(path, body))
            if answer is None:  # the server dies
                self.close_connection = True
                return
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            kind = "application/json" if status == 200 else "application/problem+json"
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("retry-after", "0")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/models/iris", seen
        finally:
            server.shutdown()
            thread.join()


def smoke(change: Change = unchanged) -> HttpParity:
    with serving(change) as (url, _):
        return smoke_test(Endpoint(url, {"X-Model-Version": "1"}), contract(), PROOF, BENTO)


def test_a_server_that_answers_bit_for_bit_and_refuses_what_it_should_passes() -> None:
    found = smoke()
    assert found.passed
    assert (found.single, found.single_mismatches) == (2, 0)
    assert (found.batch, found.batch_mismatches) == (2, 0)
    assert found.bad_inputs == found.bad_inputs_refused == len(bad_inputs(contract()))
    assert 0 < found.p50_ms <= found.p99_ms


def test_a_gateway_that_limits_requests_is_asked_again_when_it_says() -> None:
    waiting = itertools.cycle([True, False])

    def limited(path: str, request: Any, reply: Reply) -> Reply:
        return (429, {"detail": "later"}) if next(waiting) else reply

    assert smoke(limited).passed


def test_every_request_pins_the_version_that_is_tested() -> None:
    with serving(unchanged) as (url, seen):
        pin = {"X-Model-Version": "1", "X-Environment": "staging"}
        smoke_test(Endpoint(url, pin), contract(), PROOF, BENTO)
    assert {headers["x-model-version"] for headers in seen} == {"1"}
    assert {headers["x-environment"] for headers in seen} == {"staging"}


def off_by(amount: float) -> Change:
    """The second golden row's probability is another."""

    def change(path: str, request: Any, reply: Reply) -> Reply:
        return _off_by(amount, reply)

    return change


def _off_by(amount: float, reply: Reply) -> Reply:
    status, answer = reply
    probabilities = answer.get("probabilities")
    for item in probabilities if isinstance(probabilities, list) else [probabilities]:
        if item and item["yes"] == 0.9:
            item["yes"] += amount
    return status, answer


def test_a_probability_beyond_the_tolerance_is_found_alone_and_in_a_batch() -> None:
    found = smoke(off_by(2e-5))
    assert (found.single_mismatches, found.batch_mismatches) == (1, 1)
    assert not found.passed


def test_the_last_bits_may_differ_as_they_do_in_another_batch() -> None:
    assert smoke(off_by(math.ulp(0.9))).passed


def other_label(path: str, request: Any, reply: Reply) -> Reply:
    status, answer = reply
    return status, answer | ({"prediction": "yes"} if "prediction" in answer else {})


def test_another_label_is_found() -> None:
    found = smoke(other_label)
    assert (found.single_mismatches, found.batch_mismatches) == (1, 0)


def without(name: str) -> Change:
    def drop(path: str, request: Any, reply: Reply) -> Reply:
        status, answer = reply
        return status, {key: value for key, value in answer.items() if key != name}

    return drop


def test_missing_probabilities_are_found() -> None:
    found = smoke(without("probabilities"))
    assert (found.single_mismatches, found.batch_mismatches) == (2, 2)


def shorter(*names: str) -> Change:
    def cut(path: str, request: Any, reply: Reply) -> Reply:
        status, answer = reply
        return status, answer | {
            name: answer[name][:-1] for name in names if isinstance(answer.get(name), list)
        }

    return cut


@pytest.mark.parametrize("names", [("predictions", "probabilities"), ("predictions",)])
def test_an_answer_that_is_missing_in_a_batch_is_found(names: tuple[str, ...]) -> None:
    found = smoke(shorter(*names))
    assert (found.single_mismatches, found.batch_mismatches) == (0, 1)
    assert not found.passed


def test_answers_in_another_order_are_found() -> None:
    def turn(path: str, request: Any, reply: Reply) -> Reply:
        status, answer = reply
        return status, {
            name: value[::-1] if isinstance(value, list) else value
            for name, value in answer.items()
        }

    assert smoke(turn).batch_mismatches == 2


@pytest.mark.parametrize(
    "reply",
    [(200, {"prediction": "no"}), (500, {"title": "Oops"}), (404, {"title": "Not found"})],
    ids=["accepted", "crashed", "not there"],
)
def test_bad_input_that_is_not_refused_as_such_is_counted(reply: Reply) -> None:
    def accept_text(path: str, request: Any, right_reply: Reply) -> Reply:
        features = request.get("features")
        mistyped = isinstance(features, dict) and features.get("width") == "not a number"
        return reply if mistyped else right_reply

    found = smoke(accept_text)
    assert found.bad_inputs - found.bad_inputs_refused == 1
    assert not found.passed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda p, q, r: (503, {"detail": "queue full"}),
            "POST .*/predict .* 503 .*queue full",
        ),
        (
            lambda p, q, r: (200, r[1] | {"model": {"version": "2"}}),
            "version 2 answered at http.*, not 1",
        ),
        (lambda p, q, r: (200, {"prediction": "no"}), "version None answered at http"),
        (
            lambda p, q, r: (200, b"<html>"),
            "POST .*/predict .* 200 without 'prediction': <html>",
        ),
        (lambda p, q, r: (200, b"[]"), "POST .*/predict .* 200 without 'prediction': "),
        (without("prediction"), "POST .*/predict .* without 'prediction'"),
        (without("predictions"), "POST .*/predict/batch .* without 'predictions'"),
        (lambda p, q, r: (200, None), "disconnected"),
        (lambda p, q, r: (422, None) if r[0] == 422 else r, "disconnected"),
    ],
    ids=[
        *("refused", "another version", "no version", "no JSON", "a list", "no prediction"),
        *("no predictions", "a dying server", "a server that dies of bad input"),
    ],
)
def test_a_server_that_cannot_be_compared_is_one_sentence(change: Change, words: str) -> None:
    with pytest.raises(TargetError, match=words) as caught:
        smoke(change)
    assert "\n" not in str(caught.value)


def test_nobody_there_is_one_sentence() -> None:
    from deploy.processes import free_port

    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(TargetError, match=url):
        smoke_test(Endpoint(url, {}), contract(), PROOF, BENTO)


def test_bad_inputs_are_wrong_in_every_way_that_the_contract_knows() -> None:
    from msgspec.structs import replace

    inputs = (Input("f", "float32"), Input("i", "int64", required=False), Input("s", "string"))
    made = replace(
        contract(),
        inputs=(*inputs, Input("b", "bool")),
        graph_inputs=(GraphInput("input", "float32", ("f",)),),
        example={"f": 1.0, "i": 2, "s": "x", "b": True},
    )
    bodies = bad_inputs(made)
    good = made.example
    assert {"features": good} not in bodies
    assert {"features": good | {"no_such_field": 1}} in bodies
    assert {} in bodies
    for name in ("f", "s", "b"):
        assert {"features": {k: v for k, v in good.items() if k != name}} in bodies
    assert {"features": {k: v for k, v in good.items() if k != "i"}} not in bodies
    for name, wrong in {
        "f": "not a number",
        "i": "not a number",
        "s": 1,
        "b": "not a number",
    }.items():
        assert {"features": good | {name: wrong}} in bodies
    features = [body["features"] for body in bodies if isinstance(body.get("features"), dict)]
    infinite = [found for found in features if math.inf in found.values()]
    assert len(infinite) == 2


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([5.0], 0.99, 5.0),
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        ([1.0, 2.0], 0.5, 1.0),
        ([1.0, 2.0], 0.99, 2.0),
    ],
)
def test_a_percentile_is_a_value_that_was_measured(
    values: list[float], share: float, expected: float
) -> None:
    assert _percentile(values, share) == expected
