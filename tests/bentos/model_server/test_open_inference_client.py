"""A real client of the protocol against a real `bentoml serve`."""

from collections.abc import Iterator
from typing import Any

import pytest

from orchestration.build_bento import build_bento
from serving_config.schema import Serving
from tests.bentos.model_server.clients import Server, bentoml_serve, wait_for
from tests.bentos.model_server.models import IRIS, SPECIES, Parts
from tests.bentos.model_server.v2_requests import tensor, triton


@pytest.fixture(scope="module")
def server(iris: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("bentoml")
    bento = build_bento(iris.write(home / "model"), Serving(max_rows=2000), home)
    with bentoml_serve(bento.tag, home) as server:
        wait_for(server, "/ready", 200)
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    url = server.client.base_url
    with triton.InferenceServerClient(f"{url.host}:{url.port}") as client:
        yield client


def test_a_client_finds_server_and_model(client: Any, server: Server) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("iris")
    assert client.is_model_ready("iris", "3")
    assert not client.is_model_ready("iris", "4")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert client.get_server_metadata()["version"].startswith("iris:")
    assert client.get_model_metadata("iris", "3")["versions"] == ["3"]


@pytest.mark.parametrize("datatype", ["FP64", "FP32"])
@pytest.mark.parametrize("binary", [True, False])
def test_a_client_gets_the_answers_of_predict(
    client: Any, server: Server, iris: Parts, datatype: str, binary: bool
) -> None:
    rows = [list(row.values()) for row in iris.certificate.golden.rows]
    announced = [i["name"] for i in client.get_model_metadata("iris")["inputs"]]
    assert announced == list(IRIS)
    named = [
        tensor(name, column, datatype, binary=binary)
        for name, column in zip(announced, zip(*rows, strict=True), strict=True)
    ]
    batch = server.client.post("/predict/batch", json={"instances": rows}).json()
    for inputs in (named, [tensor("input", rows, datatype, binary=binary)]):
        result = client.infer("iris", inputs, model_version="3", request_id="7")
        assert result.get_response()["id"] == "7"
        labels = [label.decode() for label in result.as_numpy("prediction")]
        assert labels == batch["predictions"]
        expected = [[p[label] for label in SPECIES] for p in batch["probabilities"]]
        assert result.as_numpy("probabilities").tolist() == expected


def test_a_client_may_ask_for_one_output_as_json(client: Any) -> None:
    inputs = [tensor("inputs", [[5, 3, 1, 0], [6, 3, 5, 2]], "INT64")]
    outputs = [triton.InferRequestedOutput("prediction", binary_data=False)]
    result = client.infer("iris", inputs, outputs=outputs)
    assert result.as_numpy("prediction").tolist() == ["setosa", "virginica"]
    assert result.get_output("probabilities") is None


def test_a_client_may_send_many_rows_and_many_requests_at_once(client: Any) -> None:
    inputs = [tensor("input", [[5.0, 3.0, 1.5, 0.25]] * 2000, "FP64")]
    asked = [client.async_infer("iris", inputs) for _ in range(4)]
    for request in asked:
        assert request.get_result().as_numpy("probabilities").shape == (2000, 3)


def test_a_client_reads_our_words_from_an_error(client: Any) -> None:
    wrong = [tensor(name, ["x"], "BYTES") for name in IRIS]
    with pytest.raises(triton.InferenceServerException) as caught:
        client.infer("iris", wrong)
    assert caught.value.status() == "422"
    assert "sepal_length: expected a number" in caught.value.message()
    assert "as FP64, got a tensor of BYTES" in caught.value.message()
    for call in (client.get_model_config, client.get_model_metadata):
        with pytest.raises(triton.InferenceServerException, match="there is no"):
            call("other")
    compressed = [tensor("input", [[5.0, 3.0, 1.5, 0.25]], "FP64")]
    with pytest.raises(triton.InferenceServerException, match="without Content-Encoding"):
        client.infer("iris", compressed, request_compression_algorithm="gzip")
