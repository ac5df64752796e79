"""Requests meet the same versions behind Gateway API, Istio and NGINX as behind our own gateway."""

import json
import re
from dataclasses import replace
from itertools import pairwise
from typing import Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deploy.events import Live, State
from deploy.gateway.routes import Routing, cluster_name, route_table
from deploy.manifests.names import PORT, server_name
from deploy.manifests.other_than import other_than
from deploy.manifests.route_parts import UnroutableError
from deploy.manifests.traffic import route_objects
from serving_config.load import load
from serving_config.schema import Configuration, Environment
from tests.deploy.gateway.envoys_rules import ask
from tests.deploy.manifests.gateways import (
    Answer,
    ask_http_routes,
    ask_ingresses,
    ask_virtual_service,
)
from tests.deploy.releases import live

# No deadline: a busy machine is no mistake.
examples = settings(max_examples=40, deadline=None)
Json = dict[str, Any]

MODELS = ("a", "a-1", "a-1-int8", "versions", "models", "v1")
ENVIRONMENTS = ("production", "staging", "stag")
API = Literal["gateway-api", "istio", "nginx"]


def configured(traffic: API = "gateway-api", target: str = "kubernetes", **more: Any) -> Any:
    found = load(variables={})
    kubernetes = found.platform.kubernetes.model_copy(update={"traffic": traffic, **more})
    environments = {
        name: Environment.model_validate({"name": name, "target": target}) for name in ENVIRONMENTS
    }
    platform = found.platform.model_copy(update={"kubernetes": kubernetes})
    return found.model_copy(update={"platform": platform, "environments": environments})


@st.composite
def splits(draw: st.DrawFn, model: str) -> tuple[Live, ...]:
    """Up to four live versions with weights that sum to 100, some of them 0 and mirrored."""
    labels = draw(
        st.lists(
            st.tuples(st.integers(1, 12), st.sampled_from(["fp32", "int8"])),
            unique=True,
            max_size=4,
        )
    )
    cuts = draw(st.lists(st.integers(0, 100), min_size=3, max_size=3))
    bounds = [0, *sorted(cuts)[: max(0, len(labels) - 1)], 100]
    shares = [high - low for low, high in pairwise(bounds)]
    return tuple(
        live(version, weight, model=model, variant=variant).with_share(
            weight, 0 if weight else draw(st.sampled_from([0, 30, 100]))
        )
        for (version, variant), weight in zip(labels, shares, strict=False)
    )


@st.composite
def routings(draw: st.DrawFn) -> Routing:
    models = draw(st.lists(st.sampled_from(MODELS), unique=True, min_size=1, max_size=3))
    states = [
        State(environment, model, 1, draw(splits(model)))
        for environment in ENVIRONMENTS
        for model in models
    ]
    return Routing(
        environments=tuple(sorted(ENVIRONMENTS)),
        default_environment=draw(st.sampled_from(ENVIRONMENTS)),
        models=tuple(sorted(models)),
        default_model=draw(st.none() | st.sampled_from(models)),
        states=tuple(states),
        response_timeout=draw(st.sampled_from([0.5, 60, 1.25])),
    )


Asked = tuple[str, dict[str, str]]


@st.composite
def requests(draw: st.DrawFn, routing: Routing) -> Asked:
    """Ways to name a model, a version and an environment, and ways to get it wrong."""
    model = draw(st.sampled_from([*routing.models, "b"]))
    live_ones = {item.label for state in routing.states for item in state.live}
    label = draw(st.sampled_from([*sorted(live_ones), "99"]))
    own = [
        "/predict",
        "/",
        f"/v2/models/{model}/infer",
        f"/v2/models/{model}/versions/{label}/infer",
        f"/v2/models/{model}/versions",
    ]
    front = draw(st.sampled_from(["", f"/models/{model}", f"/models/{model}/versions/{label}"]))
    paths = [front + each for each in own] + [f"{front or '/'}x", "/v1/models", "/v1x"]
    headers = {}
    environment = draw(st.sampled_from([None, "", *ENVIRONMENTS, "Staging", "stagin", "x"]))
    if environment is not None:
        headers["x-environment"] = environment
    version = draw(st.sampled_from([None, None, label, "99", ""]))
    if version is not None:
        headers["x-model-version"] = version
    return draw(st.sampled_from(paths)), headers


@st.composite
def asked_of(draw: st.DrawFn, routings: st.SearchStrategy[Routing]) -> tuple[Routing, list[Asked]]:
    routing = draw(routings)
    return routing, draw(st.lists(requests(routing), min_size=30, max_size=30))


def ours(
    routing: Routing, configuration: Configuration, path: str, headers: dict[str, str]
) -> Answer:
    """What our own gateway does, with Services in place of clusters."""
    namespaces = configuration.platform.kubernetes.namespace
    services = {"control": f"slipway-control.{namespaces}"} | {
        cluster_name(state.environment, state.model, item): (
            f"{server_name(state.environment, state.model, item)}.slipway-{state.environment}"
        )
        for state in routing.states
        for item in state.live
    }
    verdict = ask(route_table(routing), path, headers)
    if verdict.status != 200:
        return Answer(status=verdict.status)
    weights = {services[name]: weight for name, weight in verdict.weights.items()}
    response = {"x-environment": verdict.environment} if verdict.environment else {}
    return Answer(weights, verdict.path, response=response)


def assert_same(found: Answer, wanted: Answer, refusals: dict[int, int]) -> None:
    """refusals: what the gateway says instead of a status of ours."""
    if wanted.status != 200:
        assert found.weights == {}
        assert found.status == refusals.get(wanted.status, wanted.status)
        return
    assert (found.status, found.weights, found.path) == (200, wanted.weights, wanted.path)
    assert found.response == wanted.response


def _compared(routing: Routing, found: Answer) -> None:
    """Who gets copies, and whether both servers are told to write down their answers."""
    mirrors = {
        f"{server_name(state.environment, state.model, item)}.slipway-{state.environment}": (
            item.mirror
        )
        for state in routing.states
        for item in state.live
        if item.mirror
    }
    assert found.mirrors.items() <= mirrors.items()
    if found.weights and "slipway-control.slipway" not in found.weights:
        assert found.request == {"x-slipway-compare": "1" if found.mirrors else None}


@examples
@given(case=asked_of(routings()))
def test_an_http_route_chooses_as_our_gateway_whatever_the_order_of_its_rules(
    case: tuple[Routing, list[Asked]],
) -> None:
    routing, asked = case
    configuration = configured()
    objects = route_objects(routing, configuration)
    for path, headers in asked:
        wanted = ours(routing, configuration, path, headers)
        if wanted.status == 307 or path in [f"/models/{model}" for model in routing.models]:
            continue
        found = ask_http_routes(objects, path, headers)
        if wanted.status == 404 and found.status == 404:
            continue
        assert_same(found, wanted, {404: 500})
        _compared(routing, found)


@examples
@given(case=asked_of(routings()))
def test_a_virtual_service_answers_as_our_gateway_in_every_respect(
    case: tuple[Routing, list[Asked]],
) -> None:
    routing, asked = case
    configuration = configured("istio")
    objects = route_objects(routing, configuration)
    for path, headers in asked:
        wanted = ours(routing, configuration, path, headers)
        found = ask_virtual_service(objects, path, headers)
        if wanted.status != 200:
            assert found.status == wanted.status
            continue
        assert_same(found, wanted, {})
        _compared(routing, found)


@examples
@given(case=asked_of(routings()))
def test_an_ingress_of_one_environment_chooses_as_our_gateway_by_path_and_weight(
    case: tuple[Routing, list[Asked]],
) -> None:
    routing, asked = case
    default = routing.default_environment
    states = tuple(
        replace_live(state, tuple(item.with_share(item.weight) for item in state.live[:2]))
        for state in routing.states
        if state.environment == default
    )
    routing = replace(routing, environments=(default,), states=states)
    configuration = configured("nginx")
    objects = route_objects(routing, configuration)
    for path, _ in asked:
        wanted = ours(routing, configuration, path, {})
        if wanted.status == 307 or "X" in path or "A" in path:
            continue
        found = ask_ingresses(objects, path)
        if wanted.status == 404 and found.status == 404:
            continue
        assert_same(found, replace(wanted, response={}), {404: 503})


def replace_live(state: State, lives: tuple[Live, ...]) -> State:
    """With the last one taking what is missing to 100."""
    rest = 100 - sum(item.weight for item in lives)
    if lives and rest:
        lives = (*lives[:-1], lives[-1].with_share(lives[-1].weight + rest))
    return State(state.environment, state.model, state.generation, lives)


def routing(*states: State, **more: Any) -> Routing:
    return Routing(ENVIRONMENTS, "staging", ("iris",), "iris", states, **more)


def httproutes(objects: list[Json]) -> list[Json]:
    return [item for item in objects if item["kind"] == "HTTPRoute"]


@examples
@given(routing=routings(), hosts=st.sampled_from([(), ("models.example.com",)]))
@example(routing=routing(), hosts=())
def test_http_routes_are_what_the_crd_admits(routing: Routing, hosts: tuple[str, ...]) -> None:
    objects = route_objects(routing, configured(hostnames=hosts, gateway="edge/main"))
    names = [(item["kind"], item["metadata"]["namespace"], item["metadata"]["name"])
             for item in objects]  # fmt: skip
    assert len(set(names)) == len(names)
    assert json.loads(json.dumps(objects)) == objects
    for route in httproutes(objects):
        assert len(route["metadata"]["name"]) <= 63
        assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", route["metadata"]["name"])
        assert route["spec"]["parentRefs"] == [{"name": "main", "namespace": "edge"}]
        assert route["spec"].get("hostnames", []) == list(hosts)
        rules = route["spec"]["rules"]
        assert 1 <= len(rules) <= 16
        assert sum(len(rule["matches"]) for rule in rules) <= 128
        for rule in rules:
            assert 1 <= len(rule["matches"]) <= 64
            assert len(rule.get("backendRefs", ())) <= 16
            if "timeouts" in rule:
                assert re.fullmatch(r"([0-9]{1,5}(h|m|s|ms)){1,4}", rule["timeouts"]["request"])
            kinds = [item["type"] for item in rule.get("filters", ())]
            assert all(kind == "RequestMirror" or kinds.count(kind) == 1 for kind in kinds)
            for match in rule["matches"]:
                assert re.fullmatch(r"(/[a-z0-9-]*)+", match["path"]["value"])
                assert all(1 <= len(item["value"]) <= 4096 for item in match.get("headers", ()))


def test_many_versions_of_many_environments_are_spread_over_routes() -> None:
    lives = tuple(live(n, 100 if n == 1 else 0) for n in range(1, 31))
    found = routing(*(State(name, "iris", 1, lives) for name in ENVIRONMENTS))
    objects = route_objects(found, configured())
    staging = [r for r in httproutes(objects) if r["metadata"]["namespace"] == "slipway-staging"]
    assert len(staging) > 1
    # One change of the split is one object's change.
    shares = [
        route["metadata"]["name"]
        for route in staging
        for rule in route["spec"]["rules"]
        for backend in rule["backendRefs"]
        if "weight" in backend
    ]
    assert len(shares) == 2
    assert set(shares) == {staging[0]["metadata"]["name"]}
    for number in (1, 17, 30):
        path = f"/models/iris/versions/{number}/predict"
        (name,) = ask_http_routes(objects, path, {"x-environment": "production"}).weights
        assert name.startswith(f"iris-{number}-production-")


def test_a_canary_reads_like_this() -> None:
    state = State("production", "iris", 1, (live(1, 90), live(2, 10), live(3, 0)))
    objects = route_objects(routing(state), configured())
    route = next(r for r in httproutes(objects) if "iris-production" in r["metadata"]["name"])
    one, two = (server_name("production", "iris", live(n)) for n in (1, 2))
    assert route["metadata"]["namespace"] == "slipway-production"
    assert route["spec"]["rules"][0] == {
        "matches": [
            {
                "path": {"type": "PathPrefix", "value": "/models/iris"},
                "headers": [{"type": "Exact", "name": "X-Environment", "value": "production"}],
            }
        ],
        "filters": [
            {
                "type": "RequestHeaderModifier",
                "requestHeaderModifier": {"remove": ["x-slipway-compare"]},
            },
            {
                "type": "ResponseHeaderModifier",
                "responseHeaderModifier": {
                    "set": [{"name": "X-Environment", "value": "production"}]
                },
            },
            {
                "type": "URLRewrite",
                "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}},
            },
        ],
        "backendRefs": [
            {"name": two, "port": PORT, "weight": 10},
            {"name": one, "port": PORT, "weight": 90},
        ],
        "timeouts": {"request": "60s"},
    }


@pytest.mark.parametrize("traffic", ["gateway-api", "istio"])
def test_a_shadow_gets_its_share_of_copies_and_both_sides_are_told(traffic: API) -> None:
    lives = (live(1, 100), live(2, 0).with_share(0, 25))
    objects = route_objects(routing(State("staging", "iris", 1, lives)), configured(traffic))
    asked = ask_http_routes if traffic == "gateway-api" else ask_virtual_service
    shadow = server_name("staging", "iris", live(2))
    answer = asked(objects, "/predict", {"x-slipway-compare": "1"})
    assert answer.mirrors == {f"{shadow}.slipway-staging": 25}
    assert answer.request == {"x-slipway-compare": "1"}
    pinned = asked(objects, "/predict", {"x-model-version": "2", "x-slipway-compare": "1"})
    assert (pinned.mirrors, pinned.request) == ({}, {"x-slipway-compare": None})


@pytest.mark.parametrize("traffic", ["gateway-api", "istio", "nginx"])
def test_an_environment_that_runs_elsewhere_is_unknown_on_the_cluster(traffic: API) -> None:
    state = State("staging", "iris", 1, (live(1),))
    objects = route_objects(routing(state), configured(traffic, target="local"))
    text = json.dumps(objects)
    assert "iris-1-staging" not in text
    assert "slipway-control" in text


def test_without_the_default_environment_a_request_has_to_name_one() -> None:
    configuration = configured()
    elsewhere = configuration.environments["staging"].model_copy(update={"target": "local"})
    environments = configuration.environments | {"staging": elsewhere}
    state = State("production", "iris", 1, (live(1),))
    objects = route_objects(
        routing(state), configuration.model_copy(update={"environments": environments})
    )
    for headers in ({}, {"x-environment": "staging"}, {"x-environment": "nowhere"}):
        assert ask_http_routes(objects, "/predict", headers).status == 404
    assert ask_http_routes(objects, "/predict", {"x-environment": "production"}).weights


@pytest.mark.parametrize("traffic", ["gateway-api", "istio"])
def test_the_models_page_is_asked_with_a_slash(traffic: API) -> None:
    objects = route_objects(routing(State("staging", "iris", 1, (live(1),))), configured(traffic))
    asked = ask_http_routes if traffic == "gateway-api" else ask_virtual_service
    answer = asked(objects, "/models/iris", {"x-environment": "staging"})
    assert (answer.status // 100, answer.location) == (3, "/models/iris/")


def test_istio_names_the_gateway_and_the_hosts_and_says_problems() -> None:
    configuration = configured("istio", hostnames=("models.example.com",), gateway="edge/main")
    (service,) = route_objects(routing(), configuration)
    assert service["spec"]["gateways"] == ["edge/main"]
    assert service["spec"]["hosts"] == ["models.example.com"]
    last = service["spec"]["http"][-1]
    assert last["headers"]["response"]["set"]["content-type"] == "application/problem+json"
    problem = json.loads(last["directResponse"]["body"]["string"])
    assert problem["status"] == 404
    assert problem["detail"].startswith("unknown X-Environment; environments: production")


def test_nginx_shares_between_two_versions() -> None:
    lives = (live(1, 80), live(2, 20), live(3, 0))
    state = State("staging", "iris", 1, lives)
    only = replace(routing(state), environments=("staging",))
    objects = route_objects(only, configured("nginx", hostnames=("a.example.com", "b.example.com")))
    names = {number: server_name("staging", "iris", live(number)) for number in (1, 2, 3)}
    canary = next(i for i in objects if i["metadata"]["name"].endswith("-canary"))
    annotations = canary["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/canary-weight"] == "20"
    assert [rule["host"] for rule in canary["spec"]["rules"]] == ["a.example.com", "b.example.com"]
    backends = {
        path["backend"]["service"]["name"]
        for rule in canary["spec"]["rules"]
        for path in rule["http"]["paths"]
    }
    assert backends == {names[2]}
    for item in objects:
        for text in item["metadata"].get("annotations", {}).values():
            assert isinstance(text, str)


@pytest.mark.parametrize(
    ("lives", "environments", "words"),
    [
        ((live(1, 50), live(2, 30), live(3, 20)), ("staging",), "there are 1, 2, 3"),
        ((live(1), live(2, 0).with_share(0, 100)), ("staging",), "cannot mark mirrored requests"),
        ((live(1),), ("production", "staging"), "here are production, staging"),
        ((live(1),), ("production",), "only the default environment 'staging'"),
    ],
)
def test_what_an_ingress_cannot_say_is_refused_with_a_way_out(
    lives: tuple[Live, ...], environments: tuple[str, ...], words: str
) -> None:
    found = replace(routing(State(environments[0], "iris", 1, lives)), environments=environments)
    with pytest.raises(UnroutableError, match=words) as raised:
        route_objects(found, configured("nginx"))
    assert "gateway-api or istio" in str(raised.value)


def test_more_than_a_route_can_hold_is_refused_with_a_way_out() -> None:
    lives = tuple(live(n, 5) for n in range(1, 21))
    with pytest.raises(UnroutableError, match=r"20 versions of iris share .* 16 backends"):
        route_objects(routing(State("staging", "iris", 1, lives)), configured())
    hosts = tuple(f"h{n}.example.com" for n in range(17))
    with pytest.raises(UnroutableError, match="16 at most, these are 17"):
        route_objects(routing(), configured(hostnames=hosts))


TEXTS = st.text(alphabet="ab1-.^]", max_size=5)


@given(words=st.sets(TEXTS, max_size=5), text=TEXTS)
def test_other_than_fits_exactly_what_is_none_of_the_words(words: set[str], text: str) -> None:
    pattern = other_than(words)
    assert bool(re.fullmatch(pattern, text)) == (text not in words)
    assert bool(re.search(pattern, text)) == (text not in words)
    assert not any(re.search(pattern, word) for word in words)
