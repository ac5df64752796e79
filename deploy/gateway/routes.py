"""Routes as a pure function of what is live.

What a request can say: `X-Environment`, `/models/{model}/…` in front of the server's own path,
a version to pin by `X-Model-Version`, `/models/{model}/versions/{version}/…` or the path of the
Open Inference Protocol, and who it is from by `X-Session-ID` or its API key, so that it stays on
its side of a split.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deploy.events import Live, State
from deploy.gateway.clusters import CONTROL, CONTROL_SECONDS, mirror_name

Json = dict[str, Any]

# Tells both servers of a mirrored request to write down what they answer; never a client's word.
COMPARE = "x-slipway-compare"
# Marks the copy of a mirrored request; never a client's word.
COPY = "x-slipway-copy"
# A request of the platform that belongs to no side, though its key does: another value each time.
PROBE = "x-slipway-probe"
# Where a request carries what `Environment.sticky` names.
_STICKY_HEADERS = {"session": ("x-session-id",), "key": ("x-api-key", "authorization")}


@dataclass(frozen=True)
class Routing:
    """All that the routes depend on.

    environments: every configured environment, live or not.
    models: every configured model.
    states: the ledger's current states.
    response_timeout: how long a model server may take for an answer.
    sticky: environment → its `Environment.sticky`; none for one that is left out.
    """

    environments: tuple[str, ...]
    default_environment: str
    models: tuple[str, ...]
    default_model: str | None
    states: tuple[State, ...]
    response_timeout: float = 60
    sticky: Mapping[str, Sequence[str]] = field(default_factory=dict)


def cluster_name(environment: str, model: str, live: Live) -> str:
    """One cluster for each live Bento: its statistics are that version's.

    The Bento's digest is part of it, so that a version built anew starts beside the old build.
    """
    return f"{model}-{live.label}-{environment}-{live.bento_digest[:8]}"


def _problem(match: Json, status: int, detail: str, headers: Sequence[Json] = ()) -> Json:
    """A route that answers by itself; the listener's local_reply_config makes it RFC 9457."""
    route: Json = {
        "match": match,
        "direct_response": {"status": status, "body": {"inline_string": detail}},
    }
    if headers:
        route["response_headers_to_add"] = list(headers)
    return route


def _header(name: str, value: str) -> Json:
    return {
        "header": {"key": name, "value": value},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }


def _environment_is(environment: str, default: str) -> Json:
    """Matches the header's value; for the default environment also its absence."""
    value = re.escape(environment)
    regex = f"({value})?" if environment == default else value
    return {
        "name": "x-environment",
        "string_match": {"safe_regex": {"regex": regex}},
        "treat_missing_header_as_empty": True,
    }


def _forward(
    match: Json, action: Json, rewrite: str | None = None, environment: str | None = None
) -> Json:
    route: Json = {
        **action,
        "retry_policy": {"retry_on": "connect-failure,refused-stream", "num_retries": 2},
    }
    if rewrite is not None:
        route["regex_rewrite"] = {
            "pattern": {"regex": f"^{re.escape(rewrite)}/?"},
            "substitution": "/",
        }
    forwarded: Json = {"match": match, "route": route}
    if environment is not None:
        forwarded["response_headers_to_add"] = [_header("x-environment", environment)]
    return forwarded


def _weighted(state: State, sticky: Sequence[str]) -> Json:
    """Newest first: whoever is on a candidate's side stays there while its share grows."""
    weighted = sorted((live for live in state.live if live.weight > 0), reverse=True)
    split: Json = {
        "clusters": [
            {"name": cluster_name(state.environment, state.model, live), "weight": live.weight}
            for live in weighted
        ]
    }
    action: Json = {"weighted_clusters": split}
    headers = [header for item in sticky for header in _STICKY_HEADERS[item]]
    if len(weighted) > 1 and headers:
        headers = [PROBE, *headers]
        split["use_hash_policy"] = True
        # The first that a request has counts; without any, chance decides.
        action["hash_policy"] = [
            {"header": {"header_name": header}, "terminal": True} for header in headers
        ]
    return action


def _mirrors(state: State) -> list[Json]:
    """Who gets copies; nobody waits for them."""
    return [
        {
            "cluster": mirror_name(cluster_name(state.environment, state.model, live)),
            "runtime_fraction": {
                "default_value": {"numerator": live.mirror, "denominator": "HUNDRED"}
            },
            "disable_shadow_host_suffix_append": True,
            "request_headers_mutations": [{"append": _header(COPY, "1")}],
        }
        for live in state.live
        if live.mirror > 0
    ]


def _split_route(match: Json, state: State, action: Json, rewrite: str | None) -> Json:
    """The route of a request that names no version."""
    mirrors = _mirrors(state)
    if not mirrors:
        return _forward(match, action, rewrite, state.environment)
    mirrored = action | {"request_mirror_policies": mirrors}
    route = _forward(match, mirrored, rewrite, state.environment)
    return route | {"request_headers_to_add": [_header(COMPARE, "1")]}


def _model_routes(routing: Routing, state: State, prefix: str) -> list[Json]:
    """The routes of one model in one environment below `prefix` ('' for the default model)."""
    environment, model = state.environment, state.model
    where = _environment_is(environment, routing.default_environment)
    here = {"path_separated_prefix": prefix} if prefix else {"prefix": "/"}
    anywhere = here | {"headers": [where]}
    named = [_header("x-environment", environment)]
    pinned = {"name": "x-model-version", "present_match": True}
    if not state.live:
        detail = f"no version of {model} is live in {environment}"
        return [_problem(anywhere, 503, detail, [*named, _header("retry-after", "5")])]
    timeout: Json = {"timeout": f"{routing.response_timeout:.3f}s"}
    by_path, by_protocol, by_header = [], [], []
    for live in state.live:
        action = timeout | {"cluster": cluster_name(environment, model, live)}
        path = f"{prefix}/versions/{live.label}"
        match = {"path_separated_prefix": path, "headers": [where]}
        by_path.append(_forward(match, action, path, environment))
        path = f"{prefix}/v2/models/{model}/versions/{live.label}"
        match = {"path_separated_prefix": path, "headers": [where]}
        by_protocol.append(_forward(match, action, prefix or None, environment))
        exact = {"name": "x-model-version", "string_match": {"exact": live.label}}
        match = here | {"headers": [where, exact]}
        by_header.append(_forward(match, action, prefix or None, environment))
    labels = ", ".join(live.label for live in state.live)
    unknown = f"this version of {model} is not live in {environment}; live: {labels}"
    versions = {"path_separated_prefix": f"{prefix}/versions", "headers": [where]}
    by_path.append(_problem(versions, 404, unknown, named))
    versions = versions | {"path_separated_prefix": f"{prefix}/v2/models/{model}/versions"}
    by_protocol.append(_problem(versions, 404, unknown, named))
    by_header.append(_problem(here | {"headers": [where, pinned]}, 404, unknown, named))
    action = timeout | _weighted(state, routing.sticky.get(environment, ()))
    weighted = _split_route(anywhere, state, action, prefix or None)
    # A version in the path goes before one in the header.
    of_page = [_with_slash(prefix), *by_path] if prefix else []
    return [*of_page, *by_protocol, *by_header, weighted]


def _with_slash(prefix: str) -> Json:
    """The model's page links to its parts by relative addresses."""
    redirect = {"path_redirect": f"{prefix}/", "response_code": "TEMPORARY_REDIRECT"}
    return {"match": {"path": prefix}, "redirect": redirect}


def route_table(routing: Routing) -> list[Json]:
    """All routes, in the order Envoy tries them."""
    states = {(state.environment, state.model): state for state in routing.states}
    table = [_control()]
    for prefix, model in [(f"/models/{model}", model) for model in routing.models] + [
        ("", routing.default_model)
    ]:
        if prefix == "":
            table.append(_no_such_model(routing))
        for environment in routing.environments if model else ():
            state = states.get((environment, model or ""), State(environment, model or ""))
            table += _model_routes(routing, state, prefix)
    if routing.default_model is None:
        detail = f"there is no default model: ask /models/<model>/…; models: {_models(routing)}"
        table.append(
            _problem({"prefix": "/", "headers": [_environment_known(routing)]}, 404, detail)
        )
    environments = ", ".join(routing.environments)
    detail = f"unknown X-Environment; environments: {environments}"
    return [*table, _problem({"prefix": "/"}, 404, detail)]


def _control() -> Json:
    """The control API, whatever environment or model is named beside it."""
    action: Json = {
        "cluster": CONTROL,
        "timeout": f"{CONTROL_SECONDS}s",
        "idle_timeout": f"{CONTROL_SECONDS + 1}s",
    }
    return _forward({"path_separated_prefix": "/v1"}, action)


def _models(routing: Routing) -> str:
    return ", ".join(routing.models) or "none"


def _environment_known(routing: Routing) -> Json:
    """Matches any configured environment, and none being named."""
    return {
        "name": "x-environment",
        "string_match": {
            "safe_regex": {"regex": f"({'|'.join(map(re.escape, routing.environments))})?"}
        },
        "treat_missing_header_as_empty": True,
    }


def _no_such_model(routing: Routing) -> Json:
    """What never falls through to the default model."""
    match = {"path_separated_prefix": "/models", "headers": [_environment_known(routing)]}
    return _problem(match, 404, f"no such model; models: {_models(routing)}")


def route_configuration(routing: Routing) -> Json:
    """The RouteConfiguration that Envoy reads by RDS."""
    return {
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": "routes",
        "virtual_hosts": [
            {"name": "models", "domains": ["*"], "routes": route_table(routing)},
        ],
        # The lists of a route go over these.
        "most_specific_header_mutations_wins": True,
        "request_headers_to_remove": [COMPARE, COPY],
        # The model server serves clients on this machine without a key: it has to know who asks,
        # whatever the client says of itself.
        "request_headers_to_add": [
            _header("x-forwarded-for", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%")
        ],
    }
