import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.events import Live, State
from deploy.gateway.clusters import cluster
from deploy.gateway.routes import Routing, cluster_name, route_configuration, route_table
from serving_config.gateway import Limits
from tests.deploy.gateway.envoys_rules import Verdict, ask
from tests.deploy.releases import live, release

# No deadline: a busy machine is no mistake.
examples = settings(max_examples=25, deadline=None)

# Names that are prefixes of each other, and that look like a version, a variant or a path.
MODELS = ("a", "a-1", "a-1-int8", "aa", "versions", "models")
ENVIRONMENTS = ("production", "staging", "eu-staging")


@st.composite
def splits(draw: st.DrawFn, model: str) -> tuple[Live, ...]:
    """Up to three live versions with weights that sum to 100."""
    labels = draw(
        st.lists(
            st.tuples(st.integers(1, 12), st.sampled_from(["fp32", "int8"])),
            unique=True,
            max_size=3,
        )
    )
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=max(0, len(labels) - 1), max_size=2)))
    bounds = [0, *cuts[: len(labels) - 1], 100]
    shares = [high - low for low, high in pairwise(bounds)]
    return tuple(
        live(version, weight, model=model, variant=variant)
        for (version, variant), weight in zip(labels, shares, strict=False)
    )


@st.composite
def routings(draw: st.DrawFn) -> Routing:
    models = draw(st.lists(st.sampled_from(MODELS), unique=True, min_size=1))
    states = [
        State(environment, model, 1, draw(splits(model)))
        for environment in ENVIRONMENTS
        for model in models
        if draw(st.booleans())
    ]
    return Routing(
        environments=tuple(sorted(ENVIRONMENTS)),
        default_environment=draw(st.sampled_from(ENVIRONMENTS)),
        models=tuple(sorted(models)),
        default_model=draw(st.none() | st.sampled_from(models)),
        states=tuple(states),
    )


def _state(routing: Routing, environment: str, model: str) -> State:
    found = {(state.environment, state.model): state for state in routing.states}
    return found.get((environment, model), State(environment, model))


def _ways(routing: Routing, environment: str, model: str) -> list[tuple[str, dict[str, str]]]:
    """(path in front of the server's own, headers): all ways to say model and environment."""
    paths = [f"/models/{model}"] + ([""] if model == routing.default_model else [])
    headers = [{"x-environment": environment}]
    headers += [{}, {"x-environment": ""}] if environment == routing.default_environment else []
    return [(path, said) for path in paths for said in headers]


def _cases(routing: Routing) -> list[tuple[State, str, dict[str, str]]]:
    return [
        (_state(routing, environment, model), path, headers)
        for environment in routing.environments
        for model in routing.models
        for path, headers in _ways(routing, environment, model)
    ]


OWN_PATHS = st.sampled_from(["/predict", "/predict/batch", "/v2/models/a/infer", "/", "/docs"])


@examples
@given(routing=routings(), path=OWN_PATHS)
def test_a_request_goes_to_the_live_versions_by_their_weights(routing: Routing, path: str) -> None:
    table = route_table(routing)
    for state, prefix, headers in _cases(routing):
        if not state.live:
            continue
        assert ask(table, prefix + path, headers) == Verdict(
            {
                cluster_name(state.environment, state.model, item): item.weight
                for item in state.live
                if item.weight
            },
            path,
            environment=state.environment,
        )


@examples
@given(routing=routings(), path=OWN_PATHS)
def test_every_live_version_is_reachable_by_its_pin_whatever_its_weight(
    routing: Routing, path: str
) -> None:
    table = route_table(routing)
    for state, prefix, headers in _cases(routing):
        for item in state.live:
            expected = Verdict(
                {cluster_name(state.environment, state.model, item): 100},
                path,
                environment=state.environment,
            )
            pin = {"x-model-version": item.label}
            assert ask(table, prefix + path, headers | pin) == expected
            protocol = f"/v2/models/{state.model}/versions/{item.label}/infer"
            for said in (headers, headers | {"x-model-version": "99"}):
                found = ask(table, prefix + protocol, said)
                assert (found.weights, found.path) == (expected.weights, protocol)
            if prefix:
                pinned = f"{prefix}/versions/{item.label}"
                assert ask(table, pinned + path, headers) == expected
                assert ask(table, pinned + path, headers | pin) == expected


@examples
@given(routing=routings(), version=st.sampled_from(["1", "3", "12", "2-int8", "x", "", "v1"]))
def test_a_version_that_is_not_live_is_404_with_those_that_are(
    routing: Routing, version: str
) -> None:
    table = route_table(routing)
    for state, prefix, headers in _cases(routing):
        labels = [item.label for item in state.live]
        if version in labels or not labels:
            continue
        protocol = f"{prefix}/v2/models/{state.model}/versions/{version}/infer"
        asked = [
            ask(table, f"{prefix}/predict", headers | {"x-model-version": version}),
            ask(table, protocol, headers),
            ask(table, protocol, headers | {"x-model-version": labels[0]}),
        ]
        if prefix:
            asked.append(ask(table, f"{prefix}/versions/{version}/predict", headers))
        for verdict in asked:
            assert verdict.status == 404
            assert verdict.detail.endswith(f"live: {', '.join(labels)}")
            assert state.model in verdict.detail
            assert state.environment in verdict.detail


@examples
@given(routing=routings())
def test_the_version_in_the_path_is_what_counts_beside_one_in_the_header(routing: Routing) -> None:
    table = route_table(routing)
    for state, prefix, headers in _cases(routing):
        labels = [item.label for item in state.live]
        for asked in [*labels, "99"] if prefix else []:
            path = f"{prefix}/versions/{asked}/predict"
            alone = ask(table, path, headers)
            assert not labels or (alone.status == 404) == (asked == "99")
            for other in labels:
                assert ask(table, path, headers | {"x-model-version": other}) == alone


@examples
@given(routing=routings(), path=OWN_PATHS)
def test_a_model_of_which_nothing_is_live_is_503_and_says_when_to_come_again(
    routing: Routing, path: str
) -> None:
    table = route_table(routing)
    for state, prefix, headers in _cases(routing):
        if state.live:
            continue
        for pin in ({}, {"x-model-version": "1"}):
            verdict = ask(table, prefix + path, headers | pin)
            assert (verdict.status, verdict.retry_after) == (503, "5")
            assert verdict.detail == f"no version of {state.model} is live in {state.environment}"


@examples
@given(
    routing=routings(),
    environment=st.sampled_from(["Staging", "stagin", "staging,production", "eu", "x|staging"]),
    path=st.sampled_from(["/predict", "/", "/models/a/predict", "/models/a/versions/1/predict"]),
)
def test_an_environment_that_nobody_configured_is_404_with_those_that_are(
    routing: Routing, environment: str, path: str
) -> None:
    verdict = ask(route_table(routing), path, {"x-environment": environment})
    assert verdict == Verdict(
        status=404,
        detail="unknown X-Environment; environments: eu-staging, production, staging",
    )


@examples
@given(routing=routings(), model=st.sampled_from([*MODELS, "b", "A", "a-", "-a"]))
def test_a_model_that_nobody_configured_is_404_with_those_that_are(
    routing: Routing, model: str
) -> None:
    if model in routing.models:
        return
    for headers in [{}, *({"x-environment": name} for name in routing.environments)]:
        verdict = ask(route_table(routing), f"/models/{model}/predict", headers)
        assert verdict.status == 404
        assert verdict.detail == f"no such model; models: {', '.join(routing.models)}"


@examples
@given(routing=routings(), path=OWN_PATHS)
def test_without_a_default_model_a_bare_path_says_how_to_name_one(
    routing: Routing, path: str
) -> None:
    table = route_table(replace(routing, default_model=None))
    for headers in [{}, *({"x-environment": name} for name in routing.environments)]:
        verdict = ask(table, path, headers)
        assert verdict.status == 404
        assert "/models/<model>/" in verdict.detail
        assert ", ".join(routing.models) in verdict.detail


@examples
@given(routing=routings(), path=st.text(alphabet="/amodelsv1-", max_size=20))
def test_every_request_gets_an_answer_and_never_from_another_environment(
    routing: Routing, path: str
) -> None:
    table = route_table(routing)
    for environment in ENVIRONMENTS:
        verdict = ask(table, f"/{path}", {"x-environment": environment})
        assert all(f"-{environment}-" in name for name in verdict.weights)
        assert verdict.environment in (None, environment)


@examples
@given(routing=routings(), path=st.sampled_from(["/v1", "/v1/", "/v1/traffic-split", "/v1/../x"]))
def test_the_control_api_is_asked_whatever_model_or_environment_is_named(
    routing: Routing, path: str
) -> None:
    for headers in ({}, {"x-environment": "nowhere"}, {"x-model-version": "1"}):
        assert ask(route_table(routing), path, headers) == Verdict({"control": 100}, path)


@examples
@given(routing=routings())
def test_equal_states_give_equal_routes_that_are_json(routing: Routing) -> None:
    document = route_configuration(routing)
    assert document == route_configuration(replace(routing))
    assert json.loads(json.dumps(document)) == document
    assert document["name"] == "routes"


def test_a_build_of_a_version_has_a_cluster_of_its_own() -> None:
    first, again = release(3).live(), release(3, build="again").live()
    assert cluster_name("staging", "iris", first) != cluster_name("staging", "iris", again)
    name = cluster_name("staging", "iris", first)
    assert name == f"iris-3-staging-{first.bento_digest[:8]}"
    assert cluster_name("staging", "iris", live(3, variant="int8")).startswith("iris-3-int8-")


def test_a_cluster_is_a_port_on_this_machine() -> None:
    made = cluster("iris-3-staging-abcdef01", 1234, Limits())
    (endpoint,) = made["load_assignment"]["endpoints"][0]["lb_endpoints"]
    address = endpoint["endpoint"]["address"]["socket_address"]
    assert address == {"address": "127.0.0.1", "port_value": 1234}
    assert made["name"] == made["load_assignment"]["cluster_name"] == "iris-3-staging-abcdef01"


@pytest.mark.parametrize("weight", [0, 100])
def test_a_version_without_traffic_is_in_no_split(weight: int) -> None:
    lives = (live(1, weight), live(2, 100 - weight))
    routing = Routing(
        ("staging",), "staging", ("iris",), "iris", (State("staging", "iris", 1, lives),)
    )
    (name,) = ask(route_table(routing), "/predict").weights
    assert name.startswith(f"iris-{1 if weight else 2}-")


def test_the_newest_version_is_first_in_a_split_however_the_ledger_lists_them() -> None:
    """A session's place in the list is fixed: with another order it would change sides."""
    lives = (live(2, 70), live(10, 20), live(10, 10, variant="int8"))
    for listed in (lives, lives[::-1]):
        routing = Routing(
            ("staging",), "staging", ("iris",), "iris", (State("staging", "iris", 1, listed),)
        )
        names = [cluster_name("staging", "iris", item) for item in lives[::-1]]
        assert list(ask(route_table(routing), "/predict").weights) == names


def test_an_answer_of_the_gateway_itself_names_the_environment() -> None:
    routing = Routing(("production", "staging"), "staging", ("iris",), None, ())
    (nothing_live,) = [
        route
        for route in route_table(routing)
        if route["match"].get("path_separated_prefix") == "/models/iris"
        and route["match"]["headers"][0]["string_match"]["safe_regex"]["regex"] == "production"
    ]
    headers = {
        h["header"]["key"]: h["header"]["value"] for h in nothing_live["response_headers_to_add"]
    }
    assert headers == {"x-environment": "production", "retry-after": "5"}
