"""Requests with entities, over the application, against a transformer on a real socket."""

import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bentos.model_server import breaker
from bentos.model_server.asgi import ArrivingBodies, Request
from bentos.model_server.bundle import CacheLimits, Limits
from bentos.model_server.contract import FeatureSource, Input
from bentos.model_server.problems import Problem
from tests.bentos.model_server import models, transformer
from tests.bentos.model_server.clients import App, assert_problem, serving
from tests.bentos.model_server.transformer import (
    AS_OF,
    Call,
    InThread,
    always,
    columns,
    healthy,
    http,
    prediction_of,
    raw,
    refusing,
    transforming,
)

NOTE = {"note": "x"}
LOOKED_UP = {"customer_activity": {"as_of": AS_OF, "status": "present"}}
ALL = {"age": 41, "income": 1000.5, "visits": 3, "member": True, "note": "x"}


def body(customer: Any, **features: Any) -> dict[str, Any]:
    return {"entities": {"customer_id": customer}, "features": NOTE | features}


@dataclass(frozen=True)
class Pair:
    """The application and the transformer that it asks."""

    app: App
    side: InThread

    @property
    def asked(self) -> transformer.Transformer:
        return self.side.transformer

    def predict(self, customer: Any, **features: Any) -> Any:
        return self.app.post("/predict", body(customer, **features))

    def batch(self, *customers: Any) -> Any:
        return self.app.post("/predict/batch", {"instances": [body(c) for c in customers]})

    def metric(self, line: str) -> float:
        text = self.app.client.get("/metrics").text
        return sum(float(row.split()[-1]) for row in text.splitlines() if row.startswith(line))


@pytest.fixture
def side() -> Iterator[InThread]:
    with transforming() as held:
        yield held


@pytest.fixture(scope="session")
def parts() -> models.Parts:
    return models.by_customer()


@pytest.fixture
def pair(
    parts: models.Parts, side: InThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Pair]:
    monkeypatch.setattr(breaker, "RETRY_SECONDS", 0.02)
    with serving(parts, tmp_path, features_url=side.transformer.url) as app:
        yield Pair(app, side)


def test_entities_stand_for_the_features_that_are_looked_up(pair: Pair) -> None:
    answer = pair.predict(17).json()
    assert answer["prediction"] == prediction_of(17)
    assert answer["features"] == LOOKED_UP
    assert "defaulted" not in answer
    [call] = pair.asked.calls
    assert call.path == "/features"
    assert call.body == {
        "service": "customers", "entities": [{"customer_id": 17}], "request": [NOTE],
    }  # fmt: skip


def test_a_batch_is_one_look_up_and_keeps_its_order(pair: Pair) -> None:
    customers = [*range(1000)]
    answer = pair.batch(*customers).json()
    assert answer["predictions"] == [prediction_of(customer) for customer in customers]
    assert answer["features"] == [LOOKED_UP] * 1000
    assert pair.asked.customers() == [customers]


def test_a_request_larger_than_one_call_is_asked_for_in_parts(
    parts: models.Parts, side: InThread, tmp_path: Path
) -> None:
    customers = [*range(2500)]
    limits = Limits(max_rows=2500, max_queue_rows=2600)
    side.transformer.behave = refusing(2101)
    with serving(parts, tmp_path, limits, features_url=side.transformer.url) as app:
        pair = Pair(app, side)
        refused = assert_problem(pair.batch(*customers), 422, "row 2101")
        assert refused["errors"][0]["row"] == 2101
        side.transformer.behave, side.transformer.calls = healthy, []
        answer = pair.batch(*customers).json()
        assert answer["predictions"] == [prediction_of(customer) for customer in customers]
        assert sorted(map(len, pair.asked.customers())) == [500, 1000, 1000]
        assert_problem(pair.batch(*range(2501)), 413, "2501 rows")


def test_a_request_with_all_inputs_asks_nobody(parts: models.Parts, tmp_path: Path) -> None:
    with serving(parts, tmp_path) as app:
        assert app.predict(**ALL).json()["prediction"] == 1045.5
        assert app.post("/predict", ALL).json()["prediction"] == 1045.5
        assert app.predict(**ALL | {"note": "entities"}).status_code == 200
        rows = {"instances": [ALL | {"note": '"entities"'}, ALL | {"note": "entities"}]}
        assert app.post("/predict/batch", rows).json()["predictions"] == [1045.5] * 2
        arrays = {"instances": [[41, 1000.5, 3, True, "entities"]]}
        assert app.post("/predict/batch", arrays).json()["predictions"] == [1045.5]
        problem = assert_problem(app.post("/predict", body(17)), 503, "SLIPWAY_FEATURES_URL")
        assert problem["type"].endswith("features-not-configured")


@pytest.mark.parametrize(
    ("request_body", "field", "words"),
    [
        (body("17"), "entities.customer_id", 'an integer within int64, got the text "17"'),
        (body(1.5), "entities.customer_id", "got 1.5"),
        (body(True), "entities.customer_id", "got true"),
        (body(None), "entities.customer_id", "got null"),
        (body(2**63), "entities.customer_id", "within int64"),
        ({"entities": {}, "features": NOTE}, "entities.customer_id", "is missing"),
        (
            {"entities": {"customer_id": 1, "sender": "x"}, "features": NOTE},
            "entities.sender",
            "not an entity of the feature service customers, which takes customer_id",
        ),
        ({"entities": 17, "features": NOTE}, "entities", "expected an object, got 17"),
        ({"entities": None, "features": NOTE}, "entities", "expected an object, got null"),
        ({"entities": {"customer_id": 1}}, "features", "it is missing"),
        ({"entities": {"customer_id": 1}, "features": {}}, "note", "is missing"),
        ({"entities": {"customer_id": 1}, "features": {"note": 1}}, "note", "a text, got 1"),
        (body(1, age=41), "age", "leave it out, or leave out entities"),
        (body(1, colour="red"), "colour", "is not an input that a request with entities gives"),
        (body(1) | {"extra": 1}, "extra", "a request has entities and features"),
    ],
)
def test_what_is_wrong_with_a_request_is_named(
    pair: Pair, request_body: dict[str, Any], field: str, words: str
) -> None:
    problem = assert_problem(pair.app.post("/predict", request_body), 422, words)
    assert problem["errors"][0]["field"] == field
    rows = {"instances": [body(1), request_body]}
    problem = assert_problem(pair.app.post("/predict/batch", rows), 422, words)
    assert problem["errors"][0] == problem["errors"][0] | {"field": field, "row": 1}
    assert pair.asked.calls == []


@pytest.mark.parametrize(
    "text",
    [
        '{"entities": {"customer_id": 1, "customer_id": 2}, "features": {"note": ""}}',
        '{"entities": {"customer_id": 1},"features": {"note": ""},"entities": {"customer_id": 2}}',
        '{"entities": {"customer_id": 1}, "features": {"note": "", "note": "x"}}',
    ],
)
def test_a_key_that_stands_twice_is_refused(pair: Pair, text: str) -> None:
    assert_problem(pair.app.post("/predict", text), 422, "stands twice")
    assert_problem(pair.app.post("/predict/batch", f'{{"instances": [{text}]}}'), 422, "twice")


def test_rows_with_and_without_entities_are_not_mixed(pair: Pair) -> None:
    for rows in ([body(1), ALL], [ALL, body(1)]):
        response = pair.app.post("/predict/batch", {"instances": rows})
        assert_problem(response, 422, "either all rows of a request have entities, or none has")
    assert_problem(pair.app.post("/predict", '{"entities": {'), 400, "not JSON")


def test_refused_entities_are_named_as_the_client_knows_them(pair: Pair) -> None:
    pair.asked.behave = refusing(8, 9)
    problem = assert_problem(pair.predict(9), 422, "unknown: 9")
    assert problem["type"].endswith("unusable-features")
    assert problem["errors"] == [{"field": "entities.customer_id", "message": "unknown: 9"}]
    problem = assert_problem(pair.batch(7, 8, 9), 422, "row 1, entities.customer_id: unknown: 8")
    assert [error["row"] for error in problem["errors"]] == [1, 2]


def test_a_refused_text_is_named_as_the_input_that_it_is(pair: Pair) -> None:
    errors = [{"field": "request[0].note", "message": "expected fewer characters"}]
    pair.asked.behave = always(422, {"detail": "note", "errors": errors})
    problem = assert_problem(pair.predict(1), 422, "note: expected fewer")
    assert problem["errors"][0]["field"] == "note"


def spoiled(**changes: Any) -> Any:
    async def behave(call: Call) -> bytes:
        answer = columns(call)
        for name, value in changes.items():
            if value is None:
                del answer["features"][name]
            else:
                answer["features"][name] = value
        return http(200, answer)

    return behave


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"age": [None]}, "age"),
        ({"age": None}, "age"),
        ({"age": ["41"]}, "age"),
        ({"age": [41.5]}, "age"),
        ({"age": [2**31]}, "age"),
        ({"age": []}, "age"),
        ({"income": [1.0, 2.0]}, "income"),
        ({"member": [1]}, "member"),
        ({"income": "many"}, "income"),
    ],
)
def test_a_feature_that_is_not_what_the_contract_says_is_never_predicted_on(
    pair: Pair, changes: dict[str, Any], name: str
) -> None:
    pair.asked.behave = spoiled(**changes)
    problem = assert_problem(pair.predict(1), 502, name)
    assert problem["type"].endswith("feature-lookup-failed")


def test_a_feature_beyond_the_contracts_categories_is_never_predicted_on(
    parts: models.Parts, side: InThread, tmp_path: Path
) -> None:
    visits = Input("visits", "int64", categories=(1, 3))
    inputs = tuple(visits if i.name == "visits" else i for i in parts.contract.inputs)
    contract = msgspec.structs.replace(parts.contract, inputs=inputs)
    rows = [*parts.certificate.golden.rows]
    changed = models.Parts(parts.onnx, contract, models.certify(parts.onnx, contract, rows))
    with serving(changed, tmp_path, features_url=side.transformer.url) as app:
        assert_problem(app.post("/predict", body(1)), 502, "visits: expected one of 1, 3, got 2")


@pytest.mark.parametrize("document", [b"", b"[]", b"{", b"\xff", b'{"features": {}}', b"null"])
def test_an_answer_that_is_no_such_document_is_not_used(pair: Pair, document: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(document)}\r\n\r\n"
    pair.asked.behave = raw(head.encode() + document)
    assert_problem(pair.predict(1), 502, "answer cannot be used")


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500])
def test_a_fault_between_the_two_servers_is_not_the_clients(pair: Pair, status: int) -> None:
    pair.asked.behave = always(status, {"detail": "there is no feature service customers"})
    problem = assert_problem(pair.predict(1), 502, f"service customers, status {status}: there is")
    assert problem["type"].endswith("feature-lookup-failed")


def test_a_store_that_is_down_is_passed_on_with_its_time(pair: Pair) -> None:
    pair.asked.behave = always(503, {"detail": "the online store is down"}, "retry-after: 7")
    for _ in range(4):  # it answers, so it is asked each time
        response = pair.predict(1)
        assert_problem(response, 503, "the online store is down")
        assert response.headers["retry-after"] == "7"
    pair.asked.behave = healthy
    assert pair.predict(1).status_code == 200


BROKEN = {
    "nothing": None,
    "half a head": b"HTTP/1.1 200 OK\r\nconte",
    "half a body": b'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"features"',
    "another protocol": b"-ERR unknown command\r\n",
    "an endless head": b"HTTP/1.1 200 OK\r\nx: " + b"x" * (17 << 20),
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_answer_is_unavailable_and_what_comes_after_it_is_right(
    pair: Pair, answer: bytes | None
) -> None:
    for customer in range(4):
        pair.asked.behave = raw(answer)
        response = pair.predict(customer)
        assert_problem(response, 503, "the feature transformer does not answer")
        assert int(response.headers["retry-after"]) >= 1
        wait_for_trial(pair)
        pair.asked.behave = healthy
        assert pair.predict(customer).json()["prediction"] == prediction_of(customer)


def wait_for_trial(pair: Pair) -> None:
    """Until the breaker lets one through, if it is open."""
    time.sleep(breaker.RETRY_SECONDS)


def test_answers_that_nobody_asked_for_are_never_taken_for_others(pair: Pair) -> None:
    async def twice(call: Call) -> bytes:
        answer = http(200, columns(call))
        return answer + answer

    pair.asked.behave = twice
    for customer in range(10):
        assert pair.predict(customer).json()["prediction"] == prediction_of(customer)
    assert pair.asked.connections == 10  # none that said too much is used again


def test_a_connection_that_is_said_to_close_is_not_used_again(pair: Pair) -> None:
    async def last(call: Call) -> bytes:
        return http(200, columns(call), "connection: close")

    pair.asked.behave = last
    assert [pair.predict(customer).status_code for customer in range(3)] == [200] * 3
    assert pair.asked.connections == 3


def test_a_kept_connection_that_closes_on_a_request_is_replaced_once(pair: Pair) -> None:
    assert pair.predict(1).status_code == 200
    closed: list[Call] = []

    async def first_closes(call: Call) -> bytes | None:
        if closed:
            return await healthy(call)
        closed.append(call)
        return await raw(None)(call)

    pair.asked.behave = first_closes
    assert pair.predict(2).json()["prediction"] == prediction_of(2)
    assert pair.asked.connections == 2


def test_a_kept_connection_that_was_closed_meanwhile_is_not_noticed(pair: Pair) -> None:
    for customer in range(3):
        assert pair.predict(customer).status_code == 200
    assert pair.asked.connections == 1
    pair.side.stop()
    pair.side.start()
    assert pair.predict(3).json()["prediction"] == prediction_of(3)
    assert pair.asked.connections == 2


def test_without_the_transformer_it_fails_at_once_and_works_again_when_it_is_back(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.side.stop()
    for _ in range(breaker.FAILURES + 1):
        assert_problem(pair.predict(1), 503, "does not answer")
    pair.side.start()
    wait_for_trial(pair)
    assert pair.predict(1).json()["prediction"] == prediction_of(1)
    assert pair.app.predict(**ALL).status_code == 200


def test_a_transformer_that_hangs_costs_its_time_twice_and_then_none(
    parts: models.Parts, side: InThread, tmp_path: Path
) -> None:
    side.transformer.behave = hanging
    more = {"features_url": side.transformer.url, "features_timeout": 0.1}
    with serving(parts, tmp_path, **more) as app:
        pair = Pair(app, side)
        for _ in range(breaker.FAILURES):
            assert pair.predict(1).status_code == 503
        asked = len(pair.asked.calls)
        response = pair.predict(1)
        assert_problem(response, 503, "does not answer")
        assert response.headers["retry-after"] == "2"
        assert len(pair.asked.calls) == asked
        assert pair.metric('slipway_entity_lookups_total{result="unavailable"}') == 3


async def hanging(call: Call) -> bytes | None:
    import asyncio

    await asyncio.sleep(60)
    return None


def test_a_look_up_ends_at_the_requests_own_deadline(
    parts: models.Parts, side: InThread, tmp_path: Path
) -> None:
    side.transformer.behave = hanging
    limits = Limits(deadline_seconds=0.1)
    with serving(parts, tmp_path, limits, features_url=side.transformer.url) as app:
        started = time.monotonic()
        assert app.post("/predict", body(1)).status_code in (503, 504)
        assert time.monotonic() - started < 1.5


def test_many_requests_at_once_share_calls_and_get_their_own_answers(pair: Pair) -> None:
    customers = [*range(200)]
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda customer: pair.predict(customer).json(), customers))
    assert [answer["prediction"] for answer in answers] == [*map(prediction_of, customers)]


@pytest.mark.parametrize("by_row", [True, False])
def test_defaults_are_told_by_row_and_counted(pair: Pair, by_row: bool) -> None:
    async def defaulting(call: Call) -> bytes:
        answer = columns(call)
        names, others = ["age", "visits"], len(call.body["entities"]) - 1
        answer["defaulted"] = [names, *([[]] * others)] if by_row else names
        view = answer["views"]["customer_activity"]
        view["status"][0], view["as_of"][0] = "unknown", None
        return http(200, answer)

    pair.asked.behave = defaulting
    answer = pair.predict(1).json()
    assert answer["defaulted"] == ["age", "visits"]
    assert answer["features"] == {"customer_activity": {"as_of": None, "status": "unknown"}}
    assert pair.batch(1, 2).json()["defaulted"] == [["age", "visits"], []]
    assert pair.metric('slipway_entity_defaults_total{feature="age"}') == 2


def test_look_ups_are_counted_by_result(pair: Pair) -> None:
    behaviours = [healthy, refusing(1), spoiled(age=None), always(503, {})]
    for behave in behaviours:
        pair.asked.behave = behave
        pair.predict(1)
    for result in ("ok", "refused", "failed", "unavailable"):
        assert pair.metric(f'slipway_entity_lookups_total{{result="{result}"}}') == 1
    assert pair.metric("slipway_entity_lookup_seconds_count") == 4


def test_the_platforms_key_is_sent_as_soon_as_there_is_one_and_as_it_is_now(
    parts: models.Parts, side: InThread, tmp_path: Path
) -> None:
    file = tmp_path / "platform.key"
    more = {"features_url": side.transformer.url, "features_key": file}
    with serving(parts, tmp_path / "model", **more) as app:
        pair = Pair(app, side)
        pair.predict(1)
        file.write_text("slipway_first")
        pair.predict(1)
        new = tmp_path / "new"
        new.write_text("slipway_second\n")
        new.rename(file)
        pair.predict(1)
        file.unlink()
        pair.predict(1)
    sent = [call.headers.get("x-api-key") for call in pair.asked.calls]
    assert sent == [None, "slipway_first", "slipway_second", None]


def test_a_model_that_takes_everything_from_its_entities_needs_no_features(
    side: InThread, tmp_path: Path
) -> None:
    parts = models.by_customer(models.CUSTOMERS)
    note = Input("note", "string", required=False)
    inputs = tuple(note if i.name == "note" else i for i in parts.contract.inputs)
    source = msgspec.structs.replace(models.CUSTOMERS, request=())
    contract = msgspec.structs.replace(parts.contract, inputs=inputs, feature_source=source)
    rows = [*parts.certificate.golden.rows]
    changed = models.Parts(parts.onnx, contract, models.certify(parts.onnx, contract, rows))
    entities = {"entities": {"customer_id": 5}}
    with serving(changed, tmp_path, features_url=side.transformer.url) as app:
        for given in ({}, {"features": {}}, {"features": NOTE}, {"features": {"note": None}}):
            answer = app.post("/predict", entities | given)
            assert answer.json()["prediction"] == prediction_of(5)
        assert app.post("/predict/batch", {"instances": [entities] * 2}).status_code == 200
    assert all("request" not in call.body for call in side.transformer.calls)


def test_an_input_called_entities_is_refused_when_the_model_is_loaded(tmp_path: Path) -> None:
    from bentos.model_server.codec import Codec
    from bentos.model_server.contract import ContractError
    from bentos.model_server.entity_codec import EntityCodec

    contract = models.mixed().contract
    inputs = tuple(Input("entities", "string") if i.name == "note" else i for i in contract.inputs)
    graph = tuple(g for g in contract.graph_inputs if g.name != "note")
    example = {k: v for k, v in ALL.items() if k != "note"} | {"entities": "x"}
    source = FeatureSource("customers", models.CUSTOMERS.entities, ("age",))
    changed = msgspec.structs.replace(
        contract, inputs=inputs, graph_inputs=graph, example=example, feature_source=source
    )
    with pytest.raises(ContractError, match="input called entities"):
        EntityCodec(changed, source, Codec(changed, 5).fields, 5)


def test_a_cached_answer_is_of_the_features_as_they_are_now(
    parts: models.Parts, side: InThread, tmp_path: Path
) -> None:
    limits = Limits(cache=CacheLimits())
    with serving(parts, tmp_path, limits, features_url=side.transformer.url) as app:
        pair = Pair(app, side)
        assert [pair.predict(1).headers["x-cache"] for _ in range(2)] == ["miss", "hit"]
        side.transformer.behave = spoiled(income=[100.5])
        answer = pair.predict(1)
        assert answer.headers["x-cache"] == "miss"
        assert answer.json()["prediction"] == 103.5


def test_the_request_keeps_what_was_asked_and_found_for_the_log(pair: Pair) -> None:
    model = pair.app.lifecycle.require_model()
    assert model.entities is not None
    inference = model.entities

    async def receive() -> Any:
        raise AssertionError("nobody reads the body")

    async def run(customer: int) -> Request:
        scope = {"type": "http", "method": "POST", "path": "/predict", "headers": []}
        request = Request(scope, receive, ArrivingBodies())
        asked = inference.codec.decode_one(json.dumps(body(customer)).encode())
        assert asked is not None
        try:
            await inference.infer(asked, request, model.infer)
        except Problem:
            assert customer == 9
        return request

    pair.asked.behave = refusing(9)
    portal = pair.app.client.portal
    assert portal is not None
    found, refused = portal.call(run, 17), portal.call(run, 9)
    assert found.entities == ['{"customer_id":17}']
    assert [json.loads(text) for text in found.lookups or []] == [LOOKED_UP]
    assert refused.entities == ['{"customer_id":9}']
    assert refused.lookups is None


def test_model_info_shows_where_features_come_from(pair: Pair) -> None:
    source = pair.app.client.get("/model/info").json()["contract"]["feature_source"]
    assert source["service"] == "customers"
    assert source["entities"] == [{"name": "customer_id", "dtype": "int64"}]


def test_numbers_stay_exact_on_their_way(pair: Pair) -> None:
    pair.asked.behave = spoiled(income=[0.1], age=[0], visits=[0])
    row = pair.app.predict(age=0, income=0.1, visits=0, member=False, note="x").json()
    assert math.isclose(row["prediction"], 0.1, rel_tol=1e-6)
    assert pair.predict(1).json()["prediction"] == row["prediction"]


def test_the_schema_of_such_a_model_has_both_forms_with_examples_that_work(pair: Pair) -> None:
    document = pair.app.client.get("/openapi.json").json()
    for path in ("/predict", "/predict/batch"):
        post = document["paths"][path]["post"]
        examples = post["requestBody"]["content"]["application/json"]["examples"]
        assert [*examples] == ["entities", "features"]
        for example in examples.values():
            assert pair.app.post(path, example["value"]).status_code == 200
        assert "502" in post["responses"]
    row = document["components"]["schemas"]["EntityRow"]
    assert row["properties"]["entities"]["properties"]["customer_id"]["type"] == "integer"
    assert [*row["properties"]["features"]["properties"]] == ["note"]
    assert "features" in document["components"]["schemas"]["PredictAnswer"]["properties"]


def test_the_schema_of_any_other_model_has_no_entities(iris_app: App) -> None:
    document = iris_app.client.get("/openapi.json").json()
    assert "EntityRow" not in document["components"]["schemas"]
    assert "502" not in document["paths"]["/predict"]["post"]["responses"]
    assert [*document["components"]["schemas"]["BatchAnswer"]["properties"]] == [
        "predictions", "model", "request_id", "probabilities",
    ]  # fmt: skip
