"""Who gets in, and what every request and answer have in common."""

import logging
from typing import Any

import pytest

from deploy.events import LedgerError
from deploy.keys import KeyStore
from tests.deploy.control.controls import Running, build

ROUTES = [
    ("GET", "/v1/models"),
    ("GET", "/v1/models/iris"),
    ("GET", "/v1/traffic-split"),
    ("POST", "/v1/traffic-split"),
    ("GET", "/v1/metrics/v1"),
    ("POST", "/v1/models/iris/load"),
    ("POST", "/v1/models/iris/promote"),
    ("POST", "/v1/models/iris/rollback"),
    ("POST", "/v1/models/iris/retire"),
    ("GET", "/v1/ledger"),
    ("GET", "/v1/ledger/check"),
    ("GET", "/v1/alerts"),
    ("GET", "/v1/drift/iris"),
    ("GET", "/v1/drift/iris/report"),
    ("GET", "/v1/nowhere"),
]


def is_problem(answer: Any, status: int, kind: str) -> dict[str, Any]:
    """RFC 9457, with the request's id in the body and the header."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["type"] == f"urn:slipway:problem:{kind}"
    assert document["status"] == status
    assert document["request_id"] == answer.headers["x-request-id"]
    return document


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_nothing_is_told_or_done_without_a_key(api: Running, method: str, path: str) -> None:
    answer = api.ask(method, path, {} if method == "POST" else None, headers={"X-API-Key": ""})
    is_problem(answer, 401, "unauthorized")
    asked_for = "Basic" if path.startswith("/v1/drift") else "Bearer"
    assert answer.headers["www-authenticate"].startswith(asked_for)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_key_for_predictions_is_none_for_this(api: Running, method: str, path: str) -> None:
    key = KeyStore(api.control.home).add("client", ["predict"])
    api.control.keys.refresh()
    answer = api.ask(method, path, {} if method == "POST" else None, headers={"X-API-Key": key})
    assert "this needs admin" in is_problem(answer, 403, "forbidden")["detail"]


def test_with_no_key_configured_it_is_closed_and_says_how_to_open_it(api: Running) -> None:
    api.control.keys.__init__(api.control.home.root / "none.json")  # type: ignore[misc]
    problem = is_problem(api.get("/v1/models"), 401, "unauthorized")
    assert "`slipway keys add NAME --scope admin`" in problem["detail"]


def test_health_and_the_description_need_no_key(api: Running) -> None:
    for path in ("/v1/health", "/v1/openapi.json", "/v1/docs", "/v1/docs/swagger-ui.css"):
        assert api.ask("GET", path, headers={"X-API-Key": ""}).status_code == 200
    is_problem(api.ask("GET", "/v1/healthy", headers={"X-API-Key": ""}), 401, "unauthorized")


def test_the_gateways_request_id_comes_back(api: Running) -> None:
    for path in ("/v1/health", "/v1/models", "/v1/nowhere"):
        assert api.get(path, **{"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"


def test_what_is_not_there_says_so(api: Running) -> None:
    is_problem(api.get("/v1/nowhere"), 404, "not-found")
    answer = api.ask("DELETE", "/v1/traffic-split")
    is_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"v1": 100}{}', "not JSON"),
        (b"[" * 30_000, "not JSON"),
        (b'{"v1": 1' + b"0" * 5000 + b"}", "not JSON"),
    ],
)
def test_a_body_that_is_no_json_is_refused(api: Running, body: bytes, words: str) -> None:
    problem = is_problem(api.ask("POST", "/v1/traffic-split", content=body), 400, "malformed-json")
    assert words in problem["detail"]


def test_a_body_of_another_type_is_refused(api: Running) -> None:
    for given in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=x"):
        answer = api.ask(
            "POST", "/v1/traffic-split", content=b"{}", headers={"Content-Type": given}
        )
        is_problem(answer, 415, "unsupported-media-type")


def test_a_body_that_is_too_large_is_refused(api: Running) -> None:
    content = b'{"v1": ' + b" " * (64 << 10) + b"100}"
    is_problem(api.ask("POST", "/v1/traffic-split", content=content), 413, "body-too-large")


@pytest.mark.parametrize(
    "path", ["/v1/traffic-split?model=iris&model=iris", "/v1/traffic-split?modl=iris"]
)
def test_a_parameter_that_would_be_ignored_is_refused(api: Running, path: str) -> None:
    problem = is_problem(api.get(path), 422, "invalid-request")
    assert problem["errors"][0]["field"] in ("model", "modl")


def test_no_change_is_made_where_a_parameter_stands_in_the_wrong_place(api: Running) -> None:
    path = "/v1/models/iris/rollback?environment=staging"
    problem = is_problem(api.post(path, {"reason": "x"}), 422, "invalid-request")
    assert problem["errors"][0]["field"] == "environment"


def test_an_unexpected_error_is_in_the_log_and_not_in_the_answer(
    api: Running, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(call: str) -> None:
        raise ZeroDivisionError("secret of the inside")

    api.serve(build(api.control.home, 1).live())
    api.target.before = fail
    answer = api.post("/v1/traffic-split", {"v1": 100})
    is_problem(answer, 500, "internal-error")
    assert "secret" not in answer.text
    assert "secret of the inside" in caplog.text


def test_a_ledger_that_cannot_be_read_is_a_503_that_asks_to_come_back(
    api: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise LedgerError("the ledger failed: disk full")

    monkeypatch.setattr(api.ledger, "state", fail)
    answer = api.get("/v1/traffic-split")
    assert "disk full" in is_problem(answer, 503, "ledger-unavailable")["detail"]
    assert int(answer.headers["retry-after"]) > 0


def test_too_many_changes_at_once_are_turned_away(api: Running) -> None:
    api.serve(build(api.control.home, 1).live())
    with api.control.changes, api.control.changes:
        is_problem(api.post("/v1/traffic-split", {"v1": 100}), 503, "overloaded")
    assert api.post("/v1/traffic-split", {"v1": 100}).status_code == 200


def test_each_change_is_a_line_in_the_log_with_who_and_what_and_no_key(
    api: Running, caplog: pytest.LogCaptureFixture
) -> None:
    home = api.control.home
    api.serve(build(home, 1).live(90), build(home, 2).live(10))
    with caplog.at_level(logging.INFO, "slipway.control"):
        api.post("/v1/traffic-split", {"v1": 40, "v2": 60}, X_Request_ID="r-1")
    fields = [getattr(record, "fields", None) for record in caplog.records]
    assert {
        "actor": "ann",
        "action": "split",
        "environment": "staging",
        "model": "iris",
        "to": {"v1": 40, "v2": 60},
        "request_id": "r-1",
    } in fields
    assert api.key not in caplog.text
