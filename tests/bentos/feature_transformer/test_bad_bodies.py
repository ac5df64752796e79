"""A body that is not a request is refused with the field, what was expected and what came."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bentos.feature_transformer.settings import FeaturesConfig
from tests.bentos.feature_transformer import definitions
from tests.bentos.feature_transformer.clients import App, Online, transformer
from tests.bentos.model_server.clients import assert_problem


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder: Path = tmp_path_factory.mktemp("features")
    online = {"type": "sqlite", "path": str(folder / "online.db")}
    made = Online(folder, online, definitions.apply(folder, online))
    with transformer(made, FeaturesConfig(max_rows=5, max_body_bytes=20_000)) as app:
        yield app


def body(entities: str, service: str = "churn", more: str = "") -> str:
    return f'{{"service": "{service}", "entities": {entities}{more}}}'


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        ('[{"customer_id": "17"}]', "entities[0].customer_id", 'got the text "17"'),
        ('[{"customer_id": 1.5}]', "entities[0].customer_id", "got 1.5"),
        ('[{"customer_id": true}]', "entities[0].customer_id", "got true"),
        ('[{"customer_id": null}]', "entities[0].customer_id", "got null"),
        ('[{"customer_id": [1]}]', "entities[0].customer_id", "got an array"),
        ('[{"customer_id": NaN}]', "entities[0].customer_id", "got NaN"),
        ('[{"customer_id": 9223372036854775808}]', "entities[0].customer_id", "within int64"),
        (f'[{{"customer_id": 1{"0" * 5000}}}]', "entities[0].customer_id", "beyond float64"),
        ('[{"customer_id": 1}, {}]', "entities[1].customer_id", "is missing"),
        ('[{"customer_id": 1, "name": 2}]', "entities[0].name", "takes customer_id here"),
        ("[[1]]", "entities[0]", "expected an object, got an array"),
        ("[]", "entities", "is empty"),
        ('{"customer_id": 1}', "entities", "expected an array of objects, got an object"),
        ("null", "entities", "expected an array of objects, got null"),
    ],
)
def test_entities_that_are_none_are_refused(app: App, given: str, field: str, words: str) -> None:
    problem = assert_problem(app.post(body(given)), 422, words)
    assert problem["errors"][0]["field"] == field


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        ("", "request", "is missing; the service reads text from the request"),
        (', "request": null', "request", "is missing"),
        (', "request": []', "request", "has 0 rows, entities has 1"),
        (', "request": [{}]', "request[0].text", "is missing"),
        (', "request": [{"text": 3}]', "request[0].text", "expected a text, got 3"),
        (', "request": [{"text": "a", "more": 1}]', "request[0].more", "is unknown"),
        (', "request": [{"text": "a"}, {"text": "b"}]', "request", "has 2 rows, entities has 1"),
        (', "requests": []', "requests", "a request has service, entities, request alone"),
    ],
)
def test_request_fields_that_do_not_fit_are_refused(
    app: App, given: str, field: str, words: str
) -> None:
    problem = assert_problem(app.post(body('[{"customer_id": 1}]', "mail", given)), 422, words)
    assert problem["errors"][0]["field"] == field


def test_fields_of_a_service_that_reads_none_are_refused(app: App) -> None:
    given = body('[{"customer_id": 1}]', "churn", ', "request": [{"text": "a"}]')
    assert_problem(app.post(given), 422, "the service takes nothing here")


@pytest.mark.parametrize("name", ["chum", "", "\\u0000", "x" * 300])
def test_a_service_that_is_not_there_is_a_404_that_names_those_that_are(
    app: App, name: str
) -> None:
    problem = assert_problem(
        app.post(body('[{"customer_id": 1}]', name)), 404, "there is: churn, loyalty, mail, text"
    )
    assert problem["type"] == "urn:slipway:problem:unknown-service"


@pytest.mark.parametrize(
    ("given", "status", "words"),
    [
        ("", 400, "no body"),
        ("{", 400, "not JSON"),
        (b'\xff{"service"}', 400, "not UTF-8"),
        ("[" * 5000, 400, ""),
        ("7", 422, "expected an object with service and entities, got 7"),
        ("{}", 422, "expected a feature service's name, it is missing"),
        ('{"service": 3, "entities": []}', 422, "expected a feature service's name, got 3"),
        ('{"service": "churn"}', 422, "entities: is missing"),
        (body("[" + '{"customer_id": 1},' * 5 + '{"customer_id": 1}]'), 413, "at most 5"),
        (body(f'[{{"customer_id": "{"x" * 20_000}"}}]'), 413, "larger than 20000 bytes"),
        (body('[{"customer_id": 1, "shop": "\\ud800"}]', "loyalty"), 400, "cannot be read"),
    ],
)
def test_what_is_no_request_is_refused(
    app: App, given: str | bytes, status: int, words: str
) -> None:
    assert_problem(app.post(given), status, words)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "service": st.sampled_from(["churn", "mail", "loyalty", "text"]) | _VALUES,
            "entities": _VALUES | st.lists(st.fixed_dictionaries({"customer_id": _VALUES})),
            "request": _VALUES | st.lists(st.fixed_dictionaries({"text": _VALUES})),
        },
    )
)
def test_no_body_is_an_unexpected_error(app: App, document: dict[str, Any]) -> None:
    import json

    response = app.post(json.dumps(document))
    assert response.status_code in (200, 400, 404, 413, 422), response.text
