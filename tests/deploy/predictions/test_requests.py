"""The last rows that clients sent, as a replay puts them to another version."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bentos.model_server.contract import Contract, GraphInput, Input, Outputs
from deploy.home import Home
from deploy.predictions.compaction import compact
from deploy.predictions.requests import find_request, recent_rows
from serving_config.predictions import Predictions
from serving_config.schema import Configuration
from tests.deploy.control.controls import SETTINGS
from tests.deploy.predictions.segments import NOON, block, header, segment

CONFIGURATION = Configuration.model_validate(SETTINGS)
CONTRACT = Contract(
    model="iris",
    version=1,
    onnx_sha256="a" * 64,
    inputs=(Input("width", "float64"), Input("colour", "string", required=False)),
    graph_inputs=(GraphInput("in", "float64", ("width",), "vector"),),
    outputs=Outputs("classification", "label", "probabilities", ("setosa", "virginica")),
    example={"width": 1.0, "colour": "red"},
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def last(home: Home, count: int, configuration: Configuration = CONFIGURATION) -> Any:
    return recent_rows(home, configuration, "iris", "production", CONTRACT, count)


def widths(home: Home, count: int) -> list[float]:
    return [row["width"] for row in last(home, count)]


def test_the_newest_answers_of_clients_wherever_they_lie(home: Home) -> None:
    for number in range(3):
        values = [[float(10 * number), float(10 * number + 1)], ["red", None]]
        segment(
            home, f"0-{number}", block(["a", "b"], NOON + timedelta(days=number), features=values)
        )
        compact(home, Predictions(), NOON + timedelta(days=number))
    segment(home, "1-1", block(["c"], NOON + timedelta(days=3), features=[[30.0], ["blue"]]))
    assert widths(home, 100) == [0, 1, 10, 11, 20, 21, 30]
    assert widths(home, 4) == [11, 20, 21, 30]
    assert last(home, 2) == [{"width": 21.0}, {"width": 30.0, "colour": "blue"}]


def test_only_whole_answered_rows_of_clients(home: Home) -> None:
    features: list[Any] = [[1.0, 2.0, None, 4.0], ["red"] * 4]
    status, source = [200, 422, 200, 200], ["client", "client", "client", "probe"]
    segment(home, "0-1", block(list("abcd"), features=features, status=status, source=source))
    older = header(label="0", columns=("width",), dtypes=("float64",))
    segment(home, "0-1", block(["old"], features=[[9.0]]), of=older)
    assert widths(home, 10) == [1.0]


@pytest.mark.parametrize("masked", ["never", "hashed"])
def test_what_may_not_be_kept_cannot_be_replayed(home: Home, masked: str) -> None:
    segment(home, "0-1", block(["a"]))
    model = {"name": "iris", "prediction_log": {masked: ["colour"]}}
    models = SETTINGS["models"] | {"iris": model}
    assert last(home, 10, Configuration.model_validate(SETTINGS | {"models": models})) == []


def test_a_request_is_found_in_whatever_model_and_environment_it_was(home: Home) -> None:
    segment(home, "0-1", block(["r", "x"], row=[0, 0]), of=header(model="spam-detector"))
    compact(home, Predictions(), NOON)
    segment(home, "0-2", block(["r", "r"], row=[0, 1]), of=header(environment="staging"))
    found = find_request(home, CONFIGURATION, "r")
    places = [(row.model, row.environment, row.row) for row in found]
    assert sorted(places) == [
        ("iris", "staging", 0),
        ("iris", "staging", 1),
        ("spam-detector", "production", 0),
    ]
    assert find_request(home, CONFIGURATION, "r", [NOON + timedelta(days=1)]) == []
    assert find_request(home, CONFIGURATION, "unknown") == []
