"""The rules of HTTPRoutes: what a request has to look like, and where it goes then."""

from collections.abc import Collection, Sequence

from deploy.events import Live, State
from deploy.gateway.clusters import CONTROL_SECONDS
from deploy.gateway.routes import COMPARE, Routing
from deploy.manifests.names import PORT
from deploy.manifests.other_than import other_than
from deploy.manifests.route_parts import (
    CONTROL_PORT,
    CONTROL_SERVICE,
    NOTHING_LIVE,
    Json,
    UnroutableError,
    prefixes,
    service,
    state_of,
    weighted,
)

# Of the CRD: backends of a rule, characters of a header's value.
MAX_BACKENDS = 16
MAX_VALUE = 4096
_ENVIRONMENT, _VERSION = "X-Environment", "X-Model-Version"


def control_rule() -> Json:
    """The control API, whatever environment or model is named beside it."""
    return {
        "matches": [_match("/v1")],
        "backendRefs": [{"name": CONTROL_SERVICE, "port": CONTROL_PORT}],
        "timeouts": {"request": _duration(CONTROL_SECONDS)},
    }


def slash_rule(model: str) -> Json:
    """The model's page links to its parts by relative addresses. 302, which every CRD allows."""
    path = {"type": "ReplaceFullPath", "replaceFullPath": f"/models/{model}/"}
    redirect = {"type": "RequestRedirect", "requestRedirect": {"path": path, "statusCode": 302}}
    return {"matches": [_match(f"/models/{model}", kind="Exact")], "filters": [redirect]}


def model_rules(routing: Routing, state: State) -> list[Json]:
    """All that one environment answers of one model; the shares of the traffic stand first."""
    here = [prefix for prefix, model in prefixes(routing) if model == state.model]
    if not weighted(state):
        return [_nothing_live_rule(routing, state, here)] + [
            rule for prefix in here for rule in _pin_rules(routing, state, prefix)
        ]
    shares = [_share_rule(routing, state, prefix) for prefix in here]
    return shares + [rule for prefix in here for rule in _pin_rules(routing, state, prefix)]


def refused(routing: Routing) -> list[Json]:
    """Matches of what nobody may answer: an unknown environment, a version that is not live there,
    a model that is not configured (so that it never falls through to the default model)."""
    matches = [_match("/models")] if routing.default_model else []
    for prefix, model in prefixes(routing):
        deeper = _deeper(routing, prefix, model)
        if routing.default_environment in routing.environments:
            unknown = _other(_ENVIRONMENT, {*routing.environments, ""})
            matches += [_match(prefix or "/", unknown), _match(prefix or "/", unknown, _ANY)]
            matches += [_match(path, unknown) for path in deeper]
        for environment in routing.environments:
            state = state_of(routing, environment, model)
            if state.live:
                matches += _not_live_there(routing, state, prefix, deeper)
    return matches


def _not_live_there(
    routing: Routing, state: State, prefix: str, deeper: Collection[str]
) -> list[Json]:
    where = _where(routing, state.environment)
    labels = {live.label for live in state.live}
    own = {path for label in labels for path in _pins(prefix, state.model, label)}
    others = [_match(path, *where) for path in deeper if path not in own]
    return [_match(prefix or "/", *where, _other(_VERSION, labels)), *others]


def _nothing_live_rule(routing: Routing, state: State, here: Sequence[str]) -> Json:
    where = _where(routing, state.environment)
    matches = [_match(prefix or "/", *where) for prefix in here]
    if not state.live:
        for prefix in here:
            matches.append(_match(prefix or "/", *where, _ANY))
            matches += [_match(path, *where) for path in _deeper(routing, prefix, state.model)]
    backend = {"name": NOTHING_LIVE, "port": PORT}
    return {"matches": matches, "filters": _headers(state), "backendRefs": [backend]}


def _share_rule(routing: Routing, state: State, prefix: str) -> Json:
    """Of a request that names no version."""
    shares = weighted(state)
    if len(shares) > MAX_BACKENDS:
        raise UnroutableError(
            f"{len(shares)} versions of {state.model} share the traffic of {state.environment}, "
            f"but an HTTPRoute's rule has {MAX_BACKENDS} backends at most: "
            "take some to weight 0 (they can still be pinned)"
        )
    mirrors = [live for live in state.live if live.mirror > 0]
    filters = [*_headers(state, compare=bool(mirrors)), *(_mirror(state, live) for live in mirrors)]
    backends = [_backend(state, live) | {"weight": live.weight} for live in shares]
    where = _where(routing, state.environment)
    return _rule(routing, _match(prefix or "/", *where), prefix, "/", filters, backends)


def _pin_rules(routing: Routing, state: State, prefix: str) -> list[Json]:
    """A version in the path goes before one in the header: its path is longer."""
    rules = []
    where = _where(routing, state.environment)
    for live in state.live:
        backend = [_backend(state, live)]
        by_header = _match(prefix or "/", *where, _is(_VERSION, live.label))
        rules.append(_rule(routing, by_header, prefix, "/", _headers(state), backend))
        for path, own in _pins(prefix, state.model, live.label).items():
            match = _match(path, *where)
            rules.append(_rule(routing, match, path, own, _headers(state), backend))
    return rules


def _rule(
    routing: Routing, match: Json, path: str, own: str, filters: list[Json], backends: list[Json]
) -> Json:
    """own: what the server knows as `path`."""
    if path not in ("", own):
        rewrite = {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": own}}
        filters = [*filters, {"type": "URLRewrite", "urlRewrite": rewrite}]
    return {
        "matches": [match],
        "filters": filters,
        "backendRefs": backends,
        "timeouts": {"request": _duration(routing.response_timeout)},
    }


def _pins(prefix: str, model: str, label: str) -> dict[str, str]:
    """The paths that name a version → the same as the server knows them."""
    own = f"/v2/models/{model}/versions/{label}"
    by_path = {f"{prefix}/versions/{label}": "/"} if prefix else {}
    return {f"{prefix}{own}": own} | by_path


def _deeper(routing: Routing, prefix: str, model: str) -> list[str]:
    """All paths of a model at which any environment has a rule, but for the model's own."""
    states = [state_of(routing, environment, model) for environment in routing.environments]
    labels = sorted({live.label for state in states for live in state.live})
    roots = [f"{prefix}/v2/models/{model}/versions"]
    roots += [f"{prefix}/versions"] if prefix else []
    return roots + [path for label in labels for path in _pins(prefix, model, label)]


def _where(routing: Routing, environment: str) -> list[Json]:
    """The default environment's rules name none: no HTTPRoute can say that a header is absent."""
    return [] if environment == routing.default_environment else [_is(_ENVIRONMENT, environment)]


def _match(path: str, *headers: Json, kind: str = "PathPrefix") -> Json:
    match: Json = {"path": {"type": kind, "value": path}}
    return match | ({"headers": list(headers)} if headers else {})


def _is(name: str, value: str) -> Json:
    return {"type": "Exact", "name": name, "value": value}


def _other(name: str, words: Collection[str]) -> Json:
    value = other_than(words)
    if len(value) > MAX_VALUE:
        raise UnroutableError(
            f"{len(words)} values of {name} are more than one HTTPRoute's header match can tell "
            f"apart ({len(value)} characters, {MAX_VALUE} at most): shorten their names"
        )
    return {"type": "RegularExpression", "name": name, "value": value}


_ANY = _other(_VERSION, ())


def _headers(state: State, compare: bool = False) -> list[Json]:
    """Whether a client's request is compared is never the client's word."""
    request: Json = {"remove": [COMPARE]}
    if compare:
        request = {"set": [{"name": COMPARE, "value": "1"}]}
    response = {"set": [{"name": _ENVIRONMENT, "value": state.environment}]}
    return [
        {"type": "RequestHeaderModifier", "requestHeaderModifier": request},
        {"type": "ResponseHeaderModifier", "responseHeaderModifier": response},
    ]


def _mirror(state: State, live: Live) -> Json:
    """All requests where no percentage is named, which older gateways do not know."""
    mirror: Json = {"backendRef": _backend(state, live)}
    mirror |= {"percent": live.mirror} if live.mirror < 100 else {}
    return {"type": "RequestMirror", "requestMirror": mirror}


def _backend(state: State, live: Live) -> Json:
    return {"name": service(state, live), "port": PORT}


def _duration(seconds: float) -> str:
    """As Gateway API writes them (GEP-2257): no fractions."""
    whole, rest = divmod(max(1, round(seconds * 1000)), 1000)
    return (f"{whole}s" if whole else "") + (f"{rest}ms" if rest else "")
