"""A model server behind the events of AWS."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bentos.model_server.settings import SOURCE_ROOT, Settings
from bentos.prediction_log.settings import PredictionLogSettings
from deploy.aws_lambda.handler import Function, function
from deploy.home import Home
from deploy.keys import KeyStore
from tests.bentos.model_server import models
from tests.bentos.model_server.clients import GOOD, PROBLEM
from tests.bentos.model_server.models import Parts
from tests.bentos.model_server.v2_requests import LENGTH, tensor, triton, written
from tests.deploy.aws_lambda.events import Event, Json, http_api, load_balancer, rest_api

EVENTS: list[Event] = [rest_api, http_api, load_balancer]
every_event = pytest.mark.parametrize("event", EVENTS)


@pytest.fixture(scope="module")
def iris() -> Parts:
    return models.iris()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    return KeyStore(Home(tmp_path_factory.mktemp("home")).create())


@pytest.fixture(scope="module")
def headers(store: KeyStore) -> dict[str, str]:
    key = store.add("ann", ["predict"])
    return {"Content-Type": "application/json", "X-API-Key": key}


@contextmanager
def started(settings: Settings, base_path: str = "/") -> Iterator[Function]:
    made = Function(settings, base_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def served(
    iris: Parts, store: KeyStore, headers: Json, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Function]:
    folder = iris.write(tmp_path_factory.mktemp("iris"))
    with started(Settings(folder, "iris:1", keys=store.home.keys)) as made:
        yield made


def body_of(answer: Json) -> bytes:
    """As API Gateway sends it on."""
    text = answer["body"]
    return base64.b64decode(text) if answer["isBase64Encoded"] else text.encode()


def header(answer: Json, name: str) -> str:
    found = {key.lower(): value for key, value in answer["headers"].items()}
    return str(found[name])


@every_event
@pytest.mark.parametrize("binary", [False, True])
def test_a_prediction_and_a_batch(
    served: Function, iris: Parts, headers: Any, event: Event, binary: bool
) -> None:
    golden = iris.certificate.golden
    one = json.dumps({"features": golden.rows[0]}).encode()
    answer = served(event("POST", "/predict", headers, one, binary=binary), None)
    assert (answer["statusCode"], answer["isBase64Encoded"]) == (200, False)
    assert header(answer, "x-model-version")
    assert json.loads(answer["body"])["prediction"] == golden.single[0].prediction
    many = json.dumps({"instances": list(golden.rows)}).encode()
    answer = served(event("POST", "/predict/batch", headers, many, binary=binary), None)
    predictions = json.loads(answer["body"])["predictions"]
    assert predictions == [each.prediction for each in golden.batch]


@every_event
def test_a_bad_value_is_a_problem_that_is_text_and_names_it(
    served: Function, headers: Any, event: Event
) -> None:
    body = json.dumps({"features": GOOD | {"sepal_length": "long"}}).encode()
    answer = served(event("POST", "/predict", headers, body), None)
    assert (answer["statusCode"], answer["isBase64Encoded"]) == (422, False)
    assert header(answer, "content-type") == PROBLEM
    problem = json.loads(answer["body"])
    assert problem["errors"][0]["field"] == "sepal_length"
    assert problem["request_id"] == header(answer, "x-request-id")


@every_event
def test_binary_tensors_go_in_and_come_out_in_base64(
    served: Function, iris: Parts, headers: Any, event: Event
) -> None:
    rows = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]
    body, length = written([tensor("inputs", rows, "FP64")])
    said = headers | {"Content-Type": "application/octet-stream", LENGTH: str(length)}
    path = f"/v2/models/{iris.contract.model}/infer"
    answer = served(event("POST", path, said, body, binary=True), None)
    assert (answer["statusCode"], answer["isBase64Encoded"]) == (200, True), body_of(answer)
    parsed = triton.InferenceServerClient.parse_response_body(
        body_of(answer), header_length=int(header(answer, LENGTH))
    )
    assert parsed.as_numpy("prediction").shape == (2,)


@every_event
@pytest.mark.parametrize("forwarded", [{}, {"X-Forwarded-For": "127.0.0.1"}])
def test_nobody_is_let_in_without_a_key_whatever_address_is_named(
    served: Function, event: Event, forwarded: Json
) -> None:
    said = {"Content-Type": "application/json"} | forwarded
    body = json.dumps({"features": GOOD}).encode()
    for key in ({}, {"X-API-Key": "slipway_made_up"}):
        answer = served(event("POST", "/predict", said | key, body), None)
        assert answer["statusCode"] == 401


def test_without_a_key_file_nobody_is_let_in_not_even_from_the_consoles_test(
    iris: Parts, tmp_path: Path
) -> None:
    event = http_api("POST", "/predict", {"content-type": "application/json"}, b"{}")
    event["requestContext"]["http"]["sourceIp"] = "127.0.0.1"
    with started(Settings(iris.write(tmp_path))) as made:
        answer = made(event, None)
    assert answer["statusCode"] == 401
    assert "no API key is configured" in json.loads(answer["body"])["detail"]


def test_a_key_that_was_revoked_between_two_requests_is_refused_at_once(
    served: Function, store: KeyStore
) -> None:
    said = {"content-type": "application/json", "x-api-key": store.add("bob", ["predict"])}
    event = http_api("POST", "/predict", said, json.dumps({"features": GOOD}).encode())
    assert served(event, None)["statusCode"] == 200
    store.revoke("bob")
    assert served(event, None)["statusCode"] == 401


def test_a_model_that_its_certificate_does_not_prove_is_refused_with_the_reason(
    iris: Parts, store: KeyStore, headers: Any, tmp_path: Path
) -> None:
    folder = iris.write(tmp_path)
    (folder / "certificate.json").unlink()
    with started(Settings(folder, keys=store.home.keys)) as made:
        event = http_api("POST", "/predict", headers, json.dumps({"features": GOOD}).encode())
        answer = made(event, None)
        assert answer["statusCode"] == 503
        assert "certificate.json" in json.loads(answer["body"])["detail"]
        assert made(http_api("GET", "/ready", {}), None)["statusCode"] == 503


def test_a_stages_name_in_front_of_the_path_is_taken_off(iris: Parts, tmp_path: Path) -> None:
    with started(Settings(iris.write(tmp_path)), "/prod") as made:
        assert made(http_api("GET", "/prod/ready", {}), None)["statusCode"] == 200


def test_a_prediction_log_that_would_be_written_after_the_answer_is_refused(
    iris: Parts, tmp_path: Path
) -> None:
    log = PredictionLogSettings(folder=tmp_path / "log", environment="x")
    with pytest.raises(ValueError, match="SLIPWAY_PREDICTION_DURABILITY must be durable"):
        Function(Settings(iris.write(tmp_path), prediction_log=log))


def test_the_packaged_function_reads_its_variables(
    iris: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_MODEL_DIR", str(iris.write(tmp_path)))
    monkeypatch.setenv("SLIPWAY_LAMBDA_BASE_PATH", "/live")
    made = function("iris:1-fp32-abc")
    try:
        assert made(http_api("GET", "/live/health", {}), None)["statusCode"] == 200
    finally:
        made.close()


def test_the_function_needs_neither_bentoml_nor_uvicorn_nor_uvloop(
    iris: Parts, tmp_path: Path
) -> None:
    """Of the checkout it needs bentos and the handler alone."""
    code = """
import sys
for name in "bentoml uvicorn uvloop circus httpx pydantic yaml serving_config".split():
    sys.modules[name] = None
from deploy.aws_lambda.handler import function
made = function("iris:1")
event = {"version": "2.0", "rawPath": "/ready", "rawQueryString": "", "headers": {}, "body": None,
         "requestContext": {"http": {"method": "GET", "path": "/ready", "sourceIp": "192.0.2.1"}}}
print(made(event, None)["statusCode"], sorted(m for m in sys.modules if m.startswith("deploy")))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(SOURCE_ROOT), "SLIPWAY_MODEL_DIR": str(iris.write(tmp_path))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split(" ", 1) == [
        "200",
        "['deploy', 'deploy.aws_lambda', 'deploy.aws_lambda.handler']\n",
    ]
