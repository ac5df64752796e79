"""Answers over a real SQLite and a real Redis store."""

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bentos.feature_transformer.settings import FeaturesConfig, ViewConfig
from tests.bentos.feature_transformer.clients import App, Online, transformer
from tests.bentos.model_server.clients import assert_problem

PROFILE = {"age": 40, "income": 30_000.0, "is_premium": False, "region": "nowhere"}
HOUR_AGO = "2026-11-20T09:00:00Z"


def customers(*numbers: int) -> list[dict[str, Any]]:
    return [{"customer_id": number} for number in numbers]


def test_values_come_in_the_order_of_the_rows_with_their_time_and_status(app: App) -> None:
    response = app.ask("churn", customers(3, 1, 3))
    assert response.status_code == 200, response.text
    view = {"as_of": [HOUR_AGO] * 3, "status": ["present"] * 3}
    assert response.json() == {
        "features": {
            "age": [23, 21, 23],
            "income": [3001.5, 1000.5, 3001.5],
            "is_premium": [False, False, False],
            "region": ["region 3", "region 1", "region 3"],
            "purchases": [3, 1, 3],
        },
        "views": {"profile": view, "activity": view},
        "defaulted": [],
    }


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.integers(1, 3), min_size=1, max_size=30))
def test_the_values_are_those_that_feast_itself_answers(
    app: App, online: Online, numbers: list[int]
) -> None:
    texts = [{"text": "a word " * number} for number in numbers]
    for service, request in (("churn", None), ("mail", texts)):
        rows = customers(*numbers)
        expected = online.store.get_online_features(
            online.store.get_feature_service(service),
            [row | field for row, field in zip(rows, request or [{}] * len(rows), strict=True)],
        ).to_dict()
        answer = app.ask(service, rows, request=request).json()["features"]
        assert answer == {name: expected[name] for name in answer}


def test_an_unknown_entity_is_refused_and_named_once_however_many_views_lack_it(app: App) -> None:
    problem = assert_problem(
        app.ask("churn", customers(1, 404, 2, 404)), 422, "entities[1].customer_id: unknown"
    )
    assert [(item["field"], item["row"]) for item in problem["errors"]] == [
        ("entities[1].customer_id", 1),
        ("entities[3].customer_id", 3),
    ]
    assert problem["errors"][0]["message"] == (
        "unknown: profile has no values for 404; unknown: activity has no values for 404"
    )


def test_one_that_only_another_view_of_the_same_entity_has_is_unknown(
    app: App, online: Online
) -> None:
    online.write("activity", [{"customer_id": 20, "purchases": 7}])
    problem = assert_problem(app.ask("churn", customers(20)), 422, "unknown: profile")
    assert "activity" not in problem["errors"][0]["message"]


def test_at_most_twenty_entities_are_named(app: App) -> None:
    problem = assert_problem(app.ask("churn", customers(*range(400, 450))), 422, "(and 49 more)")
    assert len(problem["errors"]) == 20


def test_a_value_older_than_the_ttl_is_stale_to_the_second(app: App, online: Online) -> None:
    row = {"customer_id": 10, **PROFILE}
    online.write("profile", [row], age=timedelta(days=2))
    online.write("activity", [{"customer_id": 10, "purchases": 1}], age=timedelta(days=400))
    answer = app.ask("churn", customers(10))
    assert answer.status_code == 200, answer.text
    assert answer.json()["views"]["activity"]["status"] == ["present"]  # no TTL
    app.clock.now += timedelta(seconds=1)
    try:
        problem = assert_problem(app.ask("churn", customers(10)), 422, "stale: profile")
    finally:
        app.clock.now -= timedelta(seconds=1)
    assert problem["errors"][0]["message"] == (
        "stale: profile has values of 2026-11-18T10:00:00Z for 10, older than its TTL of 172800 s"
    )


def test_stale_values_are_served_or_replaced_as_the_view_says(online: Online) -> None:
    online.write("profile", [{"customer_id": 11, **PROFILE, "age": 90}], age=timedelta(days=3))
    online.write("activity", [{"customer_id": 11, "purchases": 1}])
    config = FeaturesConfig(views={"profile": ViewConfig(on_stale="serve")})
    with transformer(online, config) as app:
        answer = app.ask("churn", customers(11, 1)).json()
        assert answer["features"]["age"] == [90, 21]
        assert answer["views"]["profile"] == {
            "as_of": ["2026-11-17T10:00:00Z", HOUR_AGO],
            "status": ["stale", "present"],
        }
        assert answer["defaulted"] == []
        assert_problem(app.ask("churn", customers(404)), 422, "unknown")
    view = ViewConfig(on_stale="default", defaults=PROFILE)
    with transformer(online, FeaturesConfig(views={"profile": view})) as app:
        answer = app.ask("churn", customers(11, 1)).json()
        assert answer["features"]["age"] == [40, 21]
        assert answer["views"]["profile"] == {
            "as_of": [None, HOUR_AGO],
            "status": ["stale", "present"],
        }
        assert answer["defaulted"] == ["age", "income", "is_premium", "region"]


def test_defaults_stand_in_for_an_unknown_entity_in_that_view_alone(online: Online) -> None:
    view = ViewConfig(on_unknown="default", defaults=PROFILE)
    with transformer(online, FeaturesConfig(views={"profile": view})) as app:
        assert_problem(app.ask("churn", customers(404)), 422, "unknown: activity")
        online.write("activity", [{"customer_id": 12, "purchases": 5}])
        answer = app.ask("churn", customers(1, 12)).json()
        assert answer["features"]["income"] == [1000.5, 30_000.0]
        assert answer["features"]["purchases"] == [1, 5]
        assert answer["views"]["profile"]["as_of"] == [HOUR_AGO, None]
        assert answer["defaulted"] == ["age", "income", "is_premium", "region"]
        labels = 'slipway_features_lookups_total{status="%s",view="profile"}'
        assert app.metric(labels % "present") == 1
        assert app.metric(labels % "unknown") == 2  # the refused one, too
        assert app.metric(labels % "defaulted") == 2


def test_a_missing_value_of_a_known_entity_is_null_and_not_a_default(online: Online) -> None:
    row = {"customer_id": 13, **PROFILE, "income": None, "region": None}
    online.write("profile", [row])
    online.write("activity", [{"customer_id": 13, "purchases": 1}])
    view = ViewConfig(on_unknown="default", defaults=PROFILE)
    with transformer(online, FeaturesConfig(views={"profile": view})) as app:
        answer = app.ask("churn", customers(13)).json()
    assert answer["features"]["income"] == answer["features"]["region"] == [None]
    assert answer["defaulted"] == []


def test_a_key_of_two_parts_is_looked_up_by_both(app: App, online: Online) -> None:
    keys = {"customer_id": 1, "shop": "north"}
    online.write("visits", [keys | {"visits": 3}, {**keys, "customer_id": 2, "visits": 4}])
    rows = [keys, {"shop": "north", "customer_id": 2}]
    answer = app.ask("loyalty", rows).json()
    assert answer["features"] == {"age": [21, 22], "visits": [3, 4]}
    problem = assert_problem(app.ask("loyalty", [keys | {"shop": "south"}]), 422, "unknown: visits")
    assert problem["errors"][0]["field"] == "entities[0]"
    assert 'for 1, the text "south"' in problem["errors"][0]["message"]


def test_on_demand_views_are_computed_from_the_request(app: App) -> None:
    texts = [{"text": "one two"}, {"text": "żółć 漢字"}]
    answer = app.ask("mail", customers(1, 2), request=texts).json()
    assert answer["features"] == {"purchases": [1, 2], "length": [7, 7], "words": [2, 2]}
    assert list(answer["views"]) == ["activity"]
    answer = app.ask("text", [{}, {}], request=texts).json()  # no entity at all
    assert answer == {"features": {"length": [7, 7]}, "views": {}, "defaulted": []}


def test_code_of_the_definitions_that_fails_is_a_500_that_names_the_view(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    response = app.ask("text", [{}], request=[{"text": "fail"}])
    assert_problem(response, 500, "on-demand view length failed")
    assert "as asked" in caplog.text
    assert "as asked" not in response.text
    assert app.ask("text", [{}], request=[{"text": "pass"}]).status_code == 200


def test_a_thousand_rows_are_one_read_and_more_are_refused(app: App, online: Online) -> None:
    rows = [{"customer_id": number, "purchases": number} for number in range(5000, 5900)]
    online.write("activity", rows)
    before = app.metric('slipway_features_age_seconds_count{view="activity"}')
    numbers = [*range(5000, 5900), *[1] * 100]
    texts = [{"text": "x"}] * 1000
    answer = app.ask("mail", customers(*numbers), request=texts).json()
    assert answer["features"]["purchases"] == numbers
    after = app.metric('slipway_features_age_seconds_count{view="activity"}')
    assert after - before == 901  # each key once, also the one that came a hundred times
    response = app.ask("mail", customers(*numbers, 1), request=[*texts, *texts[:1]])
    assert_problem(response, 413, "entities has 1001 rows")


def test_what_was_asked_is_in_the_metrics(app: App) -> None:
    names = (
        'slipway_features_requests_total{route="/features",status="200"}',
        'slipway_features_rows_total{service="churn"}',
        'slipway_features_request_duration_seconds_count{route="/features"}',
        'slipway_features_age_seconds_bucket{le="7200.0",view="profile"}',
        'slipway_features_lookups_total{status="present",view="activity"}',
    )
    before = [app.metric(name) for name in names]
    app.ask("churn", customers(1, 2))
    assert [app.metric(name) - seen for name, seen in zip(names, before, strict=True)] == [
        *(1, 2, 1, 2, 2),
    ]
    info = f'slipway_features_info{{bento="test:1",definitions="{"0" * 64}"}}'
    assert app.metric(info) == 1


def test_the_services_can_be_asked_for(app: App) -> None:
    services = {item["name"]: item for item in app.client.get("/services").json()["services"]}
    assert services["mail"]["request"] == [{"name": "text", "dtype": "string"}]
    document = app.client.get("/openapi.json").json()
    example = document["paths"]["/features"]["post"]["requestBody"]["content"]["application/json"]
    assert app.post(json.dumps(example["example"])).status_code in (200, 422)
    schemas = document["components"]["schemas"]["FeaturesRequest"]["anyOf"]
    assert [item["properties"]["service"]["const"] for item in schemas] == [*services]
    assert "swagger" in app.client.get("/docs").text
