"""`/v1/traffic-split`."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.gateway.envoy import GatewayError
from tests.deploy.control.controls import Running, build
from tests.deploy.control.test_gate import is_problem

PATH = "/v1/traffic-split"


@pytest.fixture
def split(api: Running) -> Running:
    """Two live versions in staging, the default environment."""
    home = api.control.home
    api.serve(build(home, 1).live(90), build(home, 2).live(10))
    return api


def test_the_split_is_told_with_its_generation(split: Running) -> None:
    answer = split.get(PATH)
    assert answer.json() == {
        "model": "iris",
        "environment": "staging",
        "generation": 1,
        "weights": {"v1": 90, "v2": 10},
    }
    assert answer.headers["etag"] == '"1"'
    empty = split.get(f"{PATH}?model=spam-detector&environment=production").json()
    assert (empty["generation"], empty["weights"]) == (0, {})


def test_a_split_is_changed_recorded_under_the_keys_name_and_routed(split: Running) -> None:
    answer = split.post(PATH, {"v1": 30, "2": 70}, If_Match='"1"')
    assert answer.json()["weights"] == {"v1": 30, "v2": 70}
    assert answer.headers["etag"] == '"2"'
    event = split.ledger.last_event("staging", "iris")
    assert event is not None
    assert (event.action, event.actor) == ("split", "ann")
    assert {live.label: live.weight for live in event.live} == {"1": 30, "2": 70}
    assert split.target.calls[-1] == "route"


@pytest.mark.parametrize("tag", ['"0"', '"2"', 'W/"1"', "1", '"x"', "", '"0", "2"'])
def test_a_generation_that_is_gone_is_a_412_and_changes_nothing(split: Running, tag: str) -> None:
    is_problem(split.post(PATH, {"v1": 100}, If_Match=tag), 412, "changed-meanwhile")
    assert split.get(PATH).json()["generation"] == 1


@pytest.mark.parametrize("tag", ['"1"', "*", '"0", "1"'])
def test_the_present_generation_may_be_named_in_every_way_of_http(split: Running, tag: str) -> None:
    assert split.post(PATH, {"v1": 100}, If_Match=tag).status_code == 200


@pytest.mark.parametrize(("headers", "status"), [({}, 409), ({"If_Match": '"1"'}, 412)])
def test_of_two_at_once_one_is_told_that_the_other_was_faster(
    split: Running, headers: dict[str, str], status: int
) -> None:
    home = split.control.home
    record = split.ledger.record

    def race(change: Any) -> Any:
        split.ledger.record = record  # type: ignore[method-assign]
        split.serve(build(home, 3).live(100))
        return record(change)

    split.ledger.record = race  # type: ignore[method-assign]
    answer = split.post(PATH, {"v1": 50, "v2": 50}, **headers)
    is_problem(answer, status, "changed-meanwhile")
    assert split.get(PATH).json()["weights"] == {"v3": 100}


BAD: list[tuple[bytes, str, str]] = [
    (b"{}", "body", "at least 1"),
    (b"[]", "body", "dictionary"),
    (b"null", "body", "dictionary"),
    (b"100", "body", "dictionary"),
    (b'{"v1": NaN, "v2": 10}', "v1", "integer"),
    (b'{"v1": Infinity}', "v1", "integer"),
    (b'{"v1": 1e400}', "v1", "integer"),
    (b'{"v1": 100.0}', "v1", "integer"),
    (b'{"v1": 99.5, "v2": 0.5}', "v1", "integer"),
    (b'{"v1": true, "v2": 99}', "v1", "integer"),
    (b'{"v1": "100"}', "v1", "integer"),
    (b'{"v1": null}', "v1", "integer"),
    (b'{"v1": -10, "v2": 110}', "v1", "greater than or equal to 0"),
    (b'{"v1": 100000000000000000000000000}', "v1", "less than or equal to 100"),
    (b'{"v1": 50, "v1": 50}', "v1", "twice"),
    (b'{"v1": 50, "1": 50}', "1", "twice"),
    (b'{"": 100}', "[key]", "pattern"),
    (b'{"v0": 100}', "v0", "pattern"),
    (b'{"latest": 100}', "latest", "pattern"),
    (b'{"v1\\n": 100}', "v1", "pattern"),
    (b'{"v\\ud800": 100}', "", ""),
]


@pytest.mark.parametrize(("body", "field", "words"), BAD)
def test_weights_that_are_none_are_refused_by_name(
    split: Running, body: bytes, field: str, words: str
) -> None:
    problem = is_problem(split.ask("POST", PATH, content=body), 422, "invalid-request")
    error = problem["errors"][0]
    assert field in error["field"]
    assert words in error["message"]
    assert split.get(PATH).json()["generation"] == 1


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"v1": 90}, "sum to 100, these sum to 90"),
        ({"v1": 90, "v2": 90}, "sum to 180"),
        ({"v1": 50, "v9": 50}, "9"),
        ({"v1": 50, "v1-int8": 50}, "1-int8"),
    ],
)
def test_weights_that_cannot_be_are_refused(
    split: Running, weights: dict[str, int], words: str
) -> None:
    problem = is_problem(split.post(PATH, weights), 422, "impossible-change")
    assert words in problem["detail"]
    assert split.get(PATH).json()["generation"] == 1


def test_unknown_names_are_told_with_the_known_ones(split: Running) -> None:
    problem = is_problem(split.get(f"{PATH}?model=irsi"), 404, "unknown-model")
    assert "iris, spam-detector" in problem["detail"]
    problem = is_problem(split.get(f"{PATH}?environment=prod"), 404, "unknown-environment")
    assert "production, staging" in problem["detail"]
    is_problem(split.get(f"{PATH}?model=../etc"), 422, "invalid-request")


def test_a_gateway_that_does_not_follow_is_a_503_and_the_split_is_as_it_was(
    split: Running,
) -> None:
    def fail(call: str) -> None:
        if call == "route":
            raise GatewayError("Envoy does not answer")

    split.target.before = fail
    answer = split.post(PATH, {"v1": 100})
    is_problem(answer, 503, "gateway-unavailable")
    assert split.get(PATH).json()["weights"] == {"v1": 90, "v2": 10}


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(weights=st.dictionaries(st.sampled_from(["v1", "1", "v2", "v3", "2-int8"]), st.integers()))
def test_whatever_is_asked_the_ledgers_weights_sum_to_100(
    split: Running, weights: dict[str, int]
) -> None:
    answer = split.post(PATH, weights)
    assert answer.status_code in (200, 422)
    assert sum(split.get(PATH).json()["weights"].values()) == 100
