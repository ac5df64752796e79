"""What is live, what happened, and the changes beside the split."""

import sqlite3
from contextlib import closing
from typing import Any

import msgspec
import pytest

from deploy.events import Counters, Event, Phase
from deploy.gateway.routes import cluster_name
from serving_config.release import ReleasePolicy
from tests.deploy.control.controls import Running, build
from tests.deploy.control.test_gate import is_problem


def phase(candidate: str, stable: Any, name: Any = "canary") -> dict[str, Any]:
    policy = ReleasePolicy(policy="canary").model_dump()
    made = Phase(name=name, candidate=candidate, stable=stable, policy=policy)
    found: dict[str, Any] = msgspec.to_builtins(made)
    return found


def test_models_are_told_by_environment_with_their_servers(api: Running) -> None:
    home = api.control.home
    one, two, three = (build(home, number) for number in (1, 2, 3))
    stable = one.live(90)
    shadow = msgspec.structs.replace(three.live(0), mirror=20)
    api.serve(two.live(10), stable, shadow, phase=phase("2", stable), environment="production")
    api.target.unready.add(cluster_name("production", "iris", two.live()))
    found = api.get("/v1/models/iris").json()
    production = found["environments"]["production"]
    assert (production["generation"], production["by"]) == (1, "ann")
    versions = {item["version"]: item for item in production["versions"]}
    states = {name: item["state"] for name, item in versions.items()}
    assert states == {"v1": "serving", "v2": "candidate", "v3": "shadow"}
    assert {name: item["ready"] for name, item in versions.items()}["v2"] is False
    assert versions["v1"]["ready"] is True
    assert versions["v1"]["server"].startswith("http://127.0.0.1:")
    assert versions["v1"]["onnx_sha256"] == one.live().onnx_sha256
    assert (production["release"]["candidate"], production["release"]["stable"]) == ("v2", "v1")
    assert found["environments"]["staging"]["versions"] == []
    listed = api.get("/v1/models").json()["models"]
    assert [item["model"] for item in listed] == ["iris", "spam-detector"]
    assert listed[0] == found
    is_problem(api.get("/v1/models/irsi"), 404, "unknown-model")


def test_the_metrics_of_a_live_version(api: Running) -> None:
    two = build(api.control.home, 2)
    api.serve(two.live())
    name = cluster_name("staging", "iris", two.live())
    is_problem(api.get("/v1/metrics/v2"), 503, "target-unavailable")
    api.control.observer.tick()
    assert api.get("/v1/metrics/v2").json()["p99_ms"] is None
    api.target.counted[name] = Counters(
        requests=200,
        errors=2,
        refusals=10,
        durations={"0.01": 100, "0.1": 98, "+Inf": 2},
        predictions={"yes": 150, "no": 50},
    )
    api.control.observer.tick()
    for path in ("/v1/metrics/v2", "/v1/metrics/2?model=iris&environment=staging"):
        found = api.get(path).json()
        assert (found["requests"], found["error_rate"], found["refusal_rate"]) == (200, 0.01, 0.05)
        assert found["requests_per_second"] > 0
        assert found["p50_ms"] == pytest.approx(10)
        assert found["predictions"] == {"yes": 0.75, "no": 0.25}
        assert (found["cpu_cores"], found["memory_bytes"]) == (0.25, 100 << 20)
    problem = is_problem(api.get("/v1/metrics/3"), 404, "not-live")
    assert "live: v2" in problem["detail"]
    is_problem(api.get("/v1/metrics/latest"), 422, "invalid-request")
    api.target.up.clear()
    api.control.observer.tick()
    assert (
        "does not answer"
        in is_problem(api.get("/v1/metrics/2"), 503, "target-unavailable")["detail"]
    )


def test_a_verified_version_is_loaded_beside_the_live_ones(api: Running) -> None:
    home = api.control.home
    api.serve(build(home, 1).live(), environment="production")
    build(home, 2)
    answer = api.post("/v1/models/iris/load", {"version": 2}, If_Match='"1"')
    assert answer.json()["split"]["weights"] == {"v1": 100, "v2": 0}
    assert answer.json()["event"]["action"] == "load"
    assert answer.headers["etag"] == '"2"'
    # Again: nothing changes.
    assert api.post("/v1/models/iris/load", {"version": 2}).headers["etag"] == '"2"'


def test_a_variant_is_loaded_promoted_and_measured_by_its_label(api: Running) -> None:
    home = api.control.home
    three = build(home, 3).live()
    api.serve(three, environment="production")
    live = build(home, 3, variant="int8").live(0)
    answer = api.post("/v1/models/iris/load", {"version": "3-int8"})
    assert answer.json()["split"]["weights"] == {"v3-int8": 0, "v3": 100}
    halves = {"v3": 50, "v3-int8": 50}
    split = api.post("/v1/traffic-split?environment=production", halves)
    assert split.json()["weights"] == halves
    api.target.counted[cluster_name("production", "iris", live)] = Counters(requests=7)
    api.control.observer.tick()
    found = api.get("/v1/metrics/3-int8?environment=production").json()
    assert found["version"] == "v3-int8"
    listed = api.get("/v1/models/iris").json()["environments"]["production"]["versions"]
    assert [item["version"] for item in listed] == ["v3-int8", "v3"]
    started = api.post("/v1/models/iris/promote", {"version": "v3-int8"})
    assert started.status_code == 202
    assert [launched[:2] for launched in api.dagster.launched] == [("iris_to_production", "3-int8")]


@pytest.mark.parametrize("version", ["3-fp32", "3-int4", "latest", "3-int8 ", 0, 3.0])
def test_what_names_no_version_is_422(version: object, api: Running) -> None:
    for change in ("load", "promote", "retire"):
        answer = api.post(f"/v1/models/iris/{change}", {"version": version})
        is_problem(answer, 422, "invalid-request")


def test_what_was_not_built_or_proved_is_neither_loaded_nor_promoted(api: Running) -> None:
    home = api.control.home
    api.serve(build(home, 1).live(), environment="production")
    build(home, 2, smoked=False)
    for change in ("load", "promote"):
        path = f"/v1/models/iris/{change}"
        is_problem(api.post(path, {"version": 9}), 404, "unknown-version")
        problem = is_problem(api.post(path, {"version": 2}), 409, "not-certified")
        assert "smoke test" in problem["detail"]
        is_problem(api.post("/v1/models/irsi/" + change, {"version": 1}), 404, "unknown-model")
    tag = home.bentoml / "bentos" / build(home, 3).tag.replace(":", "/")
    (tag / "src" / "model" / "model.onnx").write_bytes(b"another graph")
    is_problem(api.post("/v1/models/iris/load", {"version": 3}), 409, "bento-changed")
    assert api.dagster.launched == []
    assert len(api.ledger.events()) == 1


def test_a_server_that_does_not_get_ready_changes_nothing(api: Running) -> None:
    home = api.control.home
    api.serve(build(home, 1).live(), environment="production")
    api.target.unready.add(cluster_name("production", "iris", build(home, 2).live()))
    answer = api.post("/v1/models/iris/load", {"version": 2})
    is_problem(answer, 503, "target-unavailable")
    assert api.ledger.state("production", "iris").generation == 1


def test_a_promotion_is_a_dagster_run_in_the_keys_name(api: Running) -> None:
    build(api.control.home, 2)
    answer = api.post("/v1/models/iris/promote", {"version": 2, "policy": "canary"})
    assert answer.status_code == 202
    assert answer.json() == {"run_id": "run-7", "url": "http://127.0.0.1:3000/runs/run-7"}
    assert answer.headers["location"] == "http://127.0.0.1:3000/runs/run-7"
    tags = {"slipway/actor": "ann", "slipway/policy": "canary"}
    assert api.dagster.launched == [("iris_to_production", "2", tags)]
    is_problem(
        api.post("/v1/models/iris/promote", {"version": 2}, If_Match='"5"'),
        412,
        "changed-meanwhile",
    )
    api.dagster.down = True
    is_problem(api.post("/v1/models/iris/promote", {"version": 2}), 503, "dagster-unavailable")
    assert len(api.dagster.launched) == 1


def test_a_rollback_is_done_at_once_and_on_the_ledger_with_its_reason(api: Running) -> None:
    home = api.control.home
    one, two = build(home, 1), build(home, 2)
    api.serve(one.live(), environment="production")
    is_problem(
        api.post("/v1/models/iris/rollback", {"reason": "x"}), 409, "nothing-to-roll-back-to"
    )
    api.serve(two.live(), environment="production")
    answer = api.post("/v1/models/iris/rollback", {"reason": "wrong in Spanish"})
    assert answer.status_code == 200
    assert answer.json()["split"]["weights"]["v1"] == 100
    event = api.ledger.last_event("production", "iris")
    assert event is not None
    assert (event.action, event.actor, event.evidence["reason"]) == (
        "rollback",
        "ann",
        "wrong in Spanish",
    )


def test_a_second_rollback_right_after_the_first_goes_further_only_if_it_says_so(
    api: Running,
) -> None:
    for version in (1, 2, 3):
        api.serve(build(api.control.home, version).live(), environment="production")
    path = "/v1/models/iris/rollback"
    assert api.post(path, {"reason": "slow"}).json()["split"]["weights"]["v2"] == 100
    api.control.traffic.tidy("production", "iris")
    is_problem(api.post(path, {"reason": "slow"}), 409, "rolled-back-already")
    answer = api.post(path, {"reason": "slow as well", "again": True})
    assert answer.json()["split"]["weights"]["v1"] == 100


def test_a_version_without_traffic_is_retired_and_one_with_traffic_is_not(api: Running) -> None:
    home = api.control.home
    api.serve(build(home, 1).live(), build(home, 2).live(0), environment="production")
    path = "/v1/models/iris/retire"
    is_problem(api.post(path, {"version": 1}), 422, "impossible-change")
    is_problem(api.post(path, {"version": 7}), 422, "impossible-change")
    assert api.post(path, {"version": "v2"}).json()["split"]["weights"] == {"v1": 100}


BAD: list[tuple[str, Any, str]] = [
    ("load", {}, "version"),
    ("load", {"version": "latest"}, "version"),
    ("load", {"version": True}, "version"),
    ("load", {"version": 2.0}, "version"),
    ("load", {"version": 0}, "version"),
    ("load", {"version": 10**30}, "version"),
    ("load", {"version": 2, "enviroment": "production"}, "enviroment"),
    ("load", {"version": 2, "environment": "Production\n"}, "environment"),
    ("promote", {"version": 2, "policy": "yolo"}, "policy"),
    ("rollback", {}, "reason"),
    ("rollback", {"reason": ""}, "reason"),
    ("rollback", {"reason": "  "}, "reason"),
    ("rollback", {"reason": "two\nlines"}, "reason"),
    ("rollback", {"reason": "x" * 501}, "reason"),
    ("rollback", {"reason": 7}, "reason"),
    ("retire", {"version": "v0"}, "version"),
    ("retire", {"version": [2]}, "version"),
    ("retire", [], "body"),
]


@pytest.mark.parametrize(("change", "body", "field"), BAD)
def test_bodies_that_are_wrong_are_refused_by_field(
    api: Running, change: str, body: Any, field: str
) -> None:
    answer = api.post(f"/v1/models/iris/{change}", body)
    problem = is_problem(answer, 422, "invalid-request")
    assert problem["errors"][0]["field"].startswith(field)


def test_the_ledger_is_told_the_newest_first_and_at_a_moment(api: Running) -> None:
    home = api.control.home
    first = api.serve(build(home, 1).live())
    api.serve(build(home, 2).live())
    api.serve(build(home, 1, model="spam-detector").live(), model="spam-detector")
    events = api.get("/v1/ledger").json()["events"]
    assert [event["id"] for event in events] == [3, 2, 1]
    assert msgspec.convert(events[2], Event) == first
    assert len(api.get("/v1/ledger?limit=1").json()["events"]) == 1
    assert len(api.get("/v1/ledger?model=iris&environment=staging").json()["events"]) == 2
    assert api.get("/v1/ledger?environment=production").json()["events"] == []
    at = first.at.replace("+", "%2B")
    assert [e["id"] for e in api.get(f"/v1/ledger?at={at}").json()["events"]] == [1]
    assert api.get("/v1/ledger?at=2001-01-01T00:00:00Z").json()["events"] == []
    latest = api.get("/v1/ledger?at=9999-12-31T23:59:59-23:59").json()["events"]
    assert [event["id"] for event in latest] == [3, 2]
    is_problem(api.get("/v1/ledger?model=irsi"), 404, "unknown-model")
    for query in ("at=yesterday", "at=2026-01-01T00:00:00", "limit=0", "limit=x"):
        is_problem(api.get(f"/v1/ledger?{query}"), 422, "invalid-request")


def test_a_changed_row_is_found(api: Running) -> None:
    api.serve(build(api.control.home, 1).live())
    assert api.get("/v1/ledger/check").json() == {"whole": True, "reason": None}
    with closing(sqlite3.connect(api.control.home.root / "ledger.db")) as connection:
        connection.execute("UPDATE deployment_events SET actor = 'eve'")
        connection.commit()
    found = api.get("/v1/ledger/check").json()
    assert found["whole"] is False
    assert "event 1" in found["reason"]


def test_alerts_are_told(api: Running) -> None:
    (alert,) = api.get("/v1/alerts").json()["alerts"]
    assert alert["labels"] == {"alertname": "HighErrorRate"}


def test_an_unknown_prediction_says_where_it_was_looked_for(api: Running) -> None:
    problem = is_problem(api.get("/v1/predictions/nothing"), 404, "unknown-request")
    assert "nothing" in problem["detail"]


def test_the_description_is_whole_and_its_examples_work(api: Running) -> None:
    document = api.get("/v1/openapi.json").json()
    text = msgspec.json.encode(document).decode()
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(document["components"]["schemas"])
    assert set(document["paths"]) >= {
        "/v1/models",
        "/v1/models/{model}",
        "/v1/traffic-split",
        "/v1/metrics/{version}",
        "/v1/models/{model}/load",
        "/v1/models/{model}/promote",
        "/v1/models/{model}/rollback",
        "/v1/models/{model}/retire",
        "/v1/ledger",
        "/v1/ledger/check",
        "/v1/predictions/{request_id}",
        "/v1/alerts",
        "/v1/health",
    }
