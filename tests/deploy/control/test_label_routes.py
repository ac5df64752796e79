"""`POST /v1/labels`: what turned out to be true."""

import json
from typing import Any

import msgspec
import pytest

from deploy.predictions.reader import read_labels
from tests.deploy.control.controls import Running
from tests.deploy.control.test_gate import is_problem
from tests.deploy.releases import contract


def body(*labels: Any, **changes: Any) -> dict[str, Any]:
    return {"model": "iris", "labels": list(labels)} | changes


def label(request_id: str = "r-1", **fields: Any) -> dict[str, Any]:
    return {"request_id": request_id, "label": "setosa"} | fields


def kept(api: Running, environment: str = "production") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_labels(api.control.home, "iris", environment).to_pylist()
    return found


def test_labels_are_kept_with_who_sent_them_before_the_answer(api: Running) -> None:
    labels = [label(), label("r-2", row=3, label=1.5), label("r-2", label=True)]
    answer = api.post("/v1/labels", body(*labels))
    assert answer.status_code == 202
    assert answer.json() == {"model": "iris", "environment": "production", "accepted": 3}
    found = {(item["request_id"], item["row"]): item for item in kept(api)}
    texts = {key: item["label"] for key, item in found.items()}
    assert texts == {("r-1", 0): "setosa", ("r-2", 3): "1.5", ("r-2", 0): "true"}
    assert {item["actor"] for item in found.values()} == {"ann"}
    assert kept(api, "staging") == []
    api.post("/v1/labels", body(label(label="virginica"), environment="staging"))
    assert [item["label"] for item in kept(api, "staging")] == ["virginica"]


@pytest.mark.parametrize(
    ("labels", "field"),
    [
        ([], "labels"),
        ([label()] * 10_001, "labels"),
        ([label(), label("r-2", label=None)], "labels.1.label"),
        ([label(label=["setosa"])], "labels.0.label"),
        ([label(label="")], "labels.0.label"),
        ([label(label="x" * 1001)], "labels.0.label"),
        ([label(label=2**64)], "labels.0.label"),
        ([{"request_id": "r-1"}], "labels.0.label"),
        ([label(7)], "labels.0.request_id"),  # type: ignore[arg-type]
        ([label("")], "labels.0.request_id"),
        ([label("x" * 129)], "labels.0.request_id"),
        ([label(), label(row="1")], "labels.1.row"),
        ([label(row=-1)], "labels.0.row"),
        ([label(), label("r-2"), label()], "labels.2.request_id"),
        ([label(lable="setosa")], "labels.0.lable"),
    ],
)
def test_a_refusal_names_the_row_and_the_field(
    api: Running, labels: list[dict[str, Any]], field: str
) -> None:
    problem = is_problem(api.post("/v1/labels", body(*labels)), 422, "invalid-request")
    assert problem["errors"][0]["field"] == field
    assert kept(api) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800"])
def test_what_only_json_can_spell_is_refused(api: Running, value: Any) -> None:
    content = json.dumps(body(label(label=value))).encode()
    problem = is_problem(api.ask("POST", "/v1/labels", content=content), 422, "invalid-request")
    assert problem["errors"][0]["field"] == "labels.0.label"


def test_unknown_models_and_environments_are_named(api: Running) -> None:
    is_problem(api.post("/v1/labels", body(label(), model="irsi")), 404, "unknown-model")
    wrong = body(label(), environment="prod")
    is_problem(api.post("/v1/labels", wrong), 404, "unknown-environment")
    is_problem(api.post("/v1/labels?model=iris", body(label())), 422, "invalid-request")


def test_a_regression_wants_numbers(api: Running) -> None:
    made = contract("iris", 1)
    outputs = msgspec.structs.replace(
        made.outputs, kind="regression", labels=(), probabilities=None
    )
    folder = api.control.home.versions / "iris" / "1"
    folder.mkdir(parents=True)
    of_values = msgspec.structs.replace(made, outputs=outputs)
    (folder / "contract.json").write_bytes(of_values.encode())
    wrong = body(label("r-1", label=2), label("r-2", label="2"), label("r-3", label=True))
    problem = is_problem(api.post("/v1/labels", wrong), 422, "invalid-request")
    assert [item["field"] for item in problem["errors"]] == ["labels.1.label", "labels.2.label"]
    assert api.post("/v1/labels", body(label(label=2.5))).status_code == 202


def test_ten_thousand_labels_fit_into_one_request(api: Running) -> None:
    labels = [label(f"{number:0128d}") for number in range(10_000)]
    answer = api.post("/v1/labels", body(*labels))
    assert answer.json()["accepted"] == 10_000
    assert len(kept(api)) == 10_000


def test_a_disk_that_takes_nothing_is_a_503_and_no_label_is_kept(api: Running) -> None:
    place = api.control.home.labels / "segments"
    place.touch()
    is_problem(api.post("/v1/labels", body(label())), 503, "labels-unavailable")
    place.unlink()
    assert api.post("/v1/labels", body(label())).status_code == 202


def test_labels_want_the_scope_admin(api: Running) -> None:
    answer = api.ask("POST", "/v1/labels", body(label()), headers={"X-API-Key": "slw_wrong"})
    assert answer.status_code == 401
    assert kept(api) == []
