import json
import re

import pytest

from tests.bentos.model_server.clients import GOOD, App


def test_model_info_has_contract_certificate_and_lineage(iris_app: App) -> None:
    info = iris_app.client.get("/model/info").json()
    contract = iris_app.parts.contract
    assert (info["name"], info["version"], info["variant"]) == ("iris", "3", "fp32")
    assert info["contract"] == json.loads(contract.encode())
    assert info["certificate"]["parity_passed"] is True
    assert info["certificate"]["http"] is None
    assert info["certificate"]["limits"]["tolerance"] == 1e-5
    assert info["lineage"] == {
        "run_id": contract.run_id,
        "model_id": contract.model_id,
        "onnx_sha256": contract.onnx_sha256,
        "bento": "test:1",
    }


def sample(app: App, line: str) -> float:
    found = re.search("^" + re.escape(line) + r" (\S+)$", app.client.get("/metrics").text, re.M)
    return float(found[1]) if found else 0.0


def test_metrics_count_requests_rows_and_classes(iris_app: App) -> None:
    series = (
        'slipway_requests_total{route="/predict/batch",status="200"}',
        'slipway_requests_total{route="/predict",status="422"}',
        'slipway_requests_total{route="other",status="404"}',
        "slipway_rows_total",
        'slipway_predictions_total{label="setosa"}',
        'slipway_request_duration_seconds_count{route="/predict/batch"}',
    )
    before = [sample(iris_app, line) for line in series]
    iris_app.post("/predict/batch", {"instances": [GOOD, GOOD]})
    iris_app.predict(sepal_length=1)
    iris_app.client.get("/no/such/path")
    grown = [sample(iris_app, line) - b for line, b in zip(series, before, strict=True)]
    assert grown == [1, 1, 1, 2, 2, 1]
    assert sample(iris_app, 'slipway_predictions_total{label="virginica"}') >= 0
    assert 'model="iris"' in iris_app.client.get("/metrics").text


def test_metrics_sum_up_the_values_of_a_regression(petal_app: App) -> None:
    series = (
        "slipway_prediction_value_count",
        'slipway_prediction_value_bucket{le="0.0"}',
        'slipway_prediction_value_bucket{le="100000.0"}',
        "slipway_prediction_value_sum",
    )
    before = [sample(petal_app, line) for line in series]
    value = petal_app.predict(**petal_app.parts.contract.example).json()["prediction"]
    grown = [sample(petal_app, line) - b for line, b in zip(series, before, strict=True)]
    assert grown[:3] == [1, 0, 1]
    assert grown[3] == pytest.approx(value)
