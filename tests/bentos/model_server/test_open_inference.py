import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bentos.model_server.bundle import Limits
from tests.bentos.model_server import models
from tests.bentos.model_server.clients import GOOD, App, assert_problem, serving
from tests.bentos.model_server.v2_requests import (
    LENGTH,
    infer,
    parsed,
    send,
    send_json,
    tensor,
    triton,
    written,
)

UNHURRIED = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
INFER = "/v2/models/iris/infer"


@pytest.fixture(scope="module")
def mixed_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with serving(models.mixed(), tmp_path_factory.mktemp("mixed")) as app:
        yield app


def example_of(app: App) -> list[dict[str, Any]]:
    """What the metadata announces, with the contract's example as data."""
    metadata = app.client.get(f"/v2/models/{app.parts.contract.model}").json()
    return [
        {
            "name": announced["name"],
            "datatype": announced["datatype"],
            "shape": [1 if size == -1 else size for size in announced["shape"]],
            "data": [app.parts.contract.example[announced["name"]]],
        }
        for announced in metadata["inputs"]
    ]


def test_the_server_says_what_it_is(iris_app: App) -> None:
    assert iris_app.client.get("/v2").json() == {
        "name": "slipway",
        "version": "test:1",
        "extensions": ["binary_tensor_data"],
    }
    assert iris_app.client.get("/v2/health/live").status_code == 200
    assert iris_app.client.get("/v2/health/ready").status_code == 200


def test_a_model_says_what_it_takes_and_answers(iris_app: App) -> None:
    metadata = iris_app.client.get("/v2/models/iris").json()
    assert iris_app.client.get("/v2/models/iris/versions/3").json() == metadata
    assert (metadata["name"], metadata["versions"]) == ("iris", ["3"])
    assert metadata["inputs"] == [
        {"name": name, "datatype": "FP64", "shape": [-1]} for name in models.IRIS
    ]
    labels = {"labels": list(models.SPECIES)}
    assert metadata["outputs"] == [
        {"name": "prediction", "datatype": "BYTES", "shape": [-1], "parameters": labels},
        {"name": "probabilities", "datatype": "FP64", "shape": [-1, 3], "parameters": labels},
    ]
    assert metadata["parameters"]["matrix"] == {
        "name": "input",
        "datatype": "FP64",
        "shape": [-1, 4],
        "columns": list(models.IRIS),
    }


def test_what_the_metadata_announces_can_be_sent_and_comes_back(
    iris_app: App, spam_app: App, petal_app: App, mixed_app: App
) -> None:
    for app in (iris_app, spam_app, petal_app, mixed_app):
        name = app.parts.contract.model
        announced = app.client.get(f"/v2/models/{name}").json()["outputs"]
        answer = send_json(app, *example_of(app)).json()
        assert (answer["model_name"], "id" in answer) == (name, False)
        for promise, output in zip(announced, answer["outputs"], strict=True):
            assert (output["name"], output["datatype"]) == (promise["name"], promise["datatype"])
            assert output["shape"] == [1, *promise["shape"][1:]]
        golden = app.parts.certificate.golden.single[0]
        assert answer["outputs"][0]["data"] == [golden.prediction]
        if golden.probabilities is not None:
            assert tuple(answer["outputs"][1]["data"]) == golden.probabilities


def test_a_matrix_as_announced_gives_the_same_answer(iris_app: App) -> None:
    values = [list(GOOD.values())] * 2
    matrix = {"name": "input", "datatype": "FP64", "shape": [2, 4], "data": values}
    batch = iris_app.post("/predict/batch", {"instances": values}).json()
    probabilities = [p for row in batch["probabilities"] for p in row.values()]
    assert send_json(iris_app, matrix).json()["outputs"][1]["data"] == probabilities


MEASURE = st.floats(min_value=-1e6, max_value=1e6, width=32)


@UNHURRIED
@given(rows=st.lists(st.tuples(*[MEASURE] * 4), min_size=1, max_size=4), binary=st.booleans())
def test_any_client_gets_the_bits_of_predict(
    iris_app: App, rows: list[tuple[float, ...]], binary: bool
) -> None:
    batch = iris_app.post("/predict/batch", {"instances": [list(row) for row in rows]}).json()
    outputs = [
        triton.InferRequestedOutput(name, binary) for name in ("probabilities", "prediction")
    ]
    named = [
        tensor(name, column, "FP32", binary=binary)
        for name, column in zip(models.IRIS, zip(*rows, strict=True), strict=True)
    ]
    for inputs in (named, [tensor("inputs", rows, "FP64", binary=binary)]):
        result = infer(iris_app, *inputs, outputs=outputs)
        expected = [list(row.values()) for row in batch["probabilities"]]
        assert result.as_numpy("probabilities").tolist() == expected
        labels = [value.decode() if binary else value for value in result.as_numpy("prediction")]
        assert labels == batch["predictions"]


def test_a_client_that_asks_for_nothing_gets_every_output_in_binary(spam_app: App) -> None:
    inputs = [tensor("email_content", ["win cash now", "minutes é"], "BYTES")]
    body, length = written(inputs, request_id="order-7")
    response = send(spam_app, body, length)
    assert response.headers["content-type"] == "application/octet-stream"
    answer = json.loads(response.content[: int(response.headers[LENGTH])])
    assert answer["id"] == "order-7"
    assert [output["parameters"] for output in answer["outputs"]] == [
        {"binary_data_size": 16},
        {"binary_data_size": 32},
    ]
    result = parsed(response)
    assert result.as_numpy("prediction").dtype == np.int64
    assert result.as_numpy("prediction").tolist() == [1, 0]
    single = spam_app.predict(email_content="win cash now").json()["probabilities"]
    assert result.as_numpy("probabilities")[0].tolist() == pytest.approx(list(single.values()))


def test_a_regression_answers_with_its_value_alone(petal_app: App) -> None:
    inputs = [tensor(name, [[1.5], [2.5]], "FP32") for name in models.IRIS[:3]]
    result = infer(petal_app, *inputs)
    values = petal_app.post("/predict/batch", {"instances": [[1.5] * 3, [2.5] * 3]}).json()
    assert result.as_numpy("prediction").tolist() == values["predictions"]
    assert result.as_numpy("probabilities") is None


@pytest.mark.parametrize("binary", [True, False])
def test_a_model_of_every_datatype_is_served(mixed_app: App, binary: bool) -> None:
    values = {"age": 41, "income": 1000.5, "visits": 3, "member": True, "note": "é"}
    datatypes = dict(zip(values, ("INT32", "FP64", "INT64", "BOOL", "BYTES"), strict=True))
    inputs = [tensor(n, [v, v], datatypes[n], binary=binary) for n, v in values.items()]
    # income is 1000.5 and the graph adds the rest up in float32
    assert infer(mixed_app, *inputs).as_numpy("prediction").tolist() == [1045.5, 1045.5]
    small = [
        tensor("age", [41], "UINT8", binary=binary),
        tensor("income", [1000.5], "FP16", binary=binary),
        tensor("visits", [3], "INT16", binary=binary),
        tensor("member", [False], "BOOL", binary=binary),
        tensor("note", [""], "BYTES", binary=binary),
    ]
    assert infer(mixed_app, *small).as_numpy("prediction").tolist() == [1044.5]


def test_an_output_may_override_the_requests_choice_of_binary(iris_app: App) -> None:
    outputs = [
        {"name": "prediction", "parameters": {"binary_data": False}},
        {"name": "probabilities"},
    ]
    parameters = {"binary_data_output": True, "priority": 1, "mine": "x"}
    response = send_json(iris_app, *example_of(iris_app), outputs=outputs, parameters=parameters)
    header = json.loads(response.content[: int(response.headers[LENGTH])])
    assert header["outputs"][0]["data"] == ["setosa"]
    assert header["outputs"][1]["parameters"] == {"binary_data_size": 24}
    assert "data" not in header["outputs"][1]
    assert len(struct.unpack("<3d", response.content[int(response.headers[LENGTH]) :])) == 3


def test_requested_outputs_select_in_their_order(iris_app: App, petal_app: App) -> None:
    inputs = example_of(iris_app)
    for names in (["probabilities"], ["probabilities", "prediction"]):
        outputs = [{"name": name} for name in names]
        answer = send_json(iris_app, *inputs, outputs=outputs, id="7").json()
        assert [output["name"] for output in answer["outputs"]] == names
        assert answer["id"] == "7"
    everything = send_json(iris_app, *inputs, outputs=[], id=None, parameters=None).json()
    assert len(everything["outputs"]) == 2
    refused = send_json(petal_app, *example_of(petal_app), outputs=[{"name": "probabilities"}])
    assert_problem(refused, 422, "is not an output of this model: prediction")


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"parameters": {"binary_data_output": 1}}, "binary_data_output must be true or false"),
        ({"outputs": [{"name": "prediction", "parameters": {"binary_data": "no"}}]}, "prediction"),
        (
            {"outputs": [{"name": "prediction", "parameters": {"classification": 2}}]},
            "no extension for classification",
        ),
        ({"outputs": [{}]}, "missing required field `name`"),
        ({"id": 7}, "Expected `str | null`, got `int`"),
        ({"inputs": []}, "is empty; expected at least one tensor"),
        ({"inputs": {}}, "Expected `array`"),
    ],
)
def test_members_that_are_wrong_are_refused(
    iris_app: App, members: dict[str, Any], words: str
) -> None:
    assert_problem(send_json(iris_app, *example_of(iris_app), **members), 422, words)


def test_an_error_says_so_where_a_v2_client_looks(iris_app: App) -> None:
    inputs = [i | {"data": [1e300]} for i in example_of(iris_app)]
    problem = assert_problem(send_json(iris_app, *inputs), 422, "sepal_length")
    assert problem["error"] == problem["detail"]
    for path in (INFER, "/v2/models/other", "/v2/models/iris/config", "/v2/x"):
        assert "error" in iris_app.client.get(path).json()
    assert "error" not in iris_app.client.get("/x").json()


def test_another_model_or_version_is_a_404_that_names_what_is_served(spam_app: App) -> None:
    model = "/v2/models/spam-detector"
    for path in ("/v2/models/x", f"{model}/versions/1", f"{model}/versions/2/ready"):
        served = "this server has spam-detector, version 2-int8"
        assert_problem(spam_app.client.get(path), 404, served)
    assert_problem(spam_app.client.post("/v2/models/x/infer", content=b"{}"), 404, "models/x/infer")
    assert spam_app.client.get(model).json()["versions"] == ["2-int8"]
    assert spam_app.client.get(f"{model}/versions/2-int8/ready").status_code == 200
    path = f"{model}/versions/2-int8/infer"
    body, length = written([tensor("email_content", ["see you at lunch"], "BYTES")])
    response = spam_app.client.post(path, content=body, headers={LENGTH: str(length)})
    assert parsed(response).as_numpy("prediction").tolist() == [0]
    assert_problem(spam_app.client.get(f"{model}/infer"), 405, "takes POST, not GET")


@pytest.mark.parametrize("kind", ["application/json", "application/octet-stream", None])
def test_content_types_of_v2_clients_are_accepted(iris_app: App, kind: str | None) -> None:
    body = json.dumps({"inputs": example_of(iris_app)}).encode()
    headers = {} if kind is None else {"content-type": kind}
    assert iris_app.client.post(INFER, content=body, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/json; charset=utf-16"},
        {"content-encoding": "gzip"},
        {"content-encoding": "gzip", "content-type": "application/json"},
    ],
)
def test_other_content_is_a_415(iris_app: App, headers: dict[str, str]) -> None:
    assert_problem(iris_app.client.post(INFER, content=b"x", headers=headers), 415, "expected")


def test_limits_of_bytes_and_rows_hold(iris_app: App) -> None:
    assert_problem(send(iris_app, b" " * 4097), 413, "larger than 4096 bytes")
    matrix = {"name": "input", "datatype": "FP64", "shape": [6, 4], "data": [1.0] * 24}
    assert_problem(send_json(iris_app, matrix), 413, "input has 6 rows")


@UNHURRIED
@given(body=st.binary(max_size=200), cut=st.integers(0, 400), at=st.integers(0, 250))
def test_no_bytes_are_ever_a_5xx(mixed_app: App, body: bytes, cut: int, at: int) -> None:
    values = {"age": 41, "income": 1.0, "visits": 3, "member": True, "note": "é"}
    datatypes = ("INT32", "FP64", "INT64", "BOOL", "BYTES")
    inputs = [
        tensor(name, [value], datatype)
        for (name, value), datatype in zip(values.items(), datatypes, strict=True)
    ]
    good, length = written(inputs)
    for damaged in (body, good[:cut] + body, good[:at] + body[:1] + good[at + 1 :]):
        for stated in (None, length, at):
            assert send(mixed_app, damaged, stated).status_code < 500


def test_metrics_count_v2_by_the_patterns_of_its_routes(iris_app: App) -> None:
    send_json(iris_app, *example_of(iris_app))
    iris_app.client.get("/v2/models/iris/versions/3/ready")
    iris_app.client.get("/v2/models/any/thing")
    text = iris_app.client.get("/metrics").text
    assert 'slipway_requests_total{route="/v2/models/{model}/infer",status="200"}' in text
    pattern = "/v2/models/{model}/versions/{version}/ready"
    assert f'slipway_requests_total{{route="{pattern}",status="200"}}' in text
    assert "any/thing" not in text
    assert "/v2/models/iris" not in text


def test_metrics_count_rows_and_classes(tmp_path: Path) -> None:
    parts = models.iris()
    with serving(parts, tmp_path) as app:
        matrix = {"name": "input", "datatype": "FP64", "shape": [2, 4], "data": [1.0] * 8}
        label = send_json(app, matrix).json()["outputs"][0]["data"][0]
        text = app.client.get("/metrics").text
    assert "slipway_rows_total 2.0" in text
    assert f'slipway_predictions_total{{label="{label}"}} 2.0' in text


def test_a_refused_model_is_live_but_not_ready(tmp_path: Path) -> None:
    parts = models.petal_width()
    broken = models.Parts(parts.onnx + b"\0", parts.contract, parts.certificate)
    with serving(broken, tmp_path) as app:
        assert app.client.get("/v2/health/live").status_code == 200
        assert app.client.get("/v2").status_code == 200
        name = parts.contract.model
        for path in ("/v2/health/ready", f"/v2/models/{name}", f"/v2/models/{name}/ready"):
            assert_problem(app.client.get(path), 503, "the file was exchanged")


def test_a_draining_server_is_not_ready_but_answers(tmp_path: Path) -> None:
    with serving(models.petal_width(), tmp_path, Limits()) as app:
        app.lifecycle.drain()
        name = app.parts.contract.model
        for path in ("/v2/health/ready", f"/v2/models/{name}/ready"):
            assert_problem(app.client.get(path), 503, "shutting down")
        assert send_json(app, *example_of(app)).status_code == 200
