"""Gateway API: HTTPRoutes, for any gateway that matches headers by regular expressions too.

The longest path counts, then the largest number of headers; never the order of rules or routes,
for no two matches here fit one request with both the same. So whatever the default environment
answers without `X-Environment` is also said, at the very same path, for all others.

https://gateway-api.sigs.k8s.io/reference/spec/#httproute
"""

from collections.abc import Iterable, Iterator

from deploy.gateway.routes import Routing
from deploy.manifests.http_rules import control_rule, model_rules, refused, slash_rule
from deploy.manifests.route_parts import (
    NOTHING_LIVE,
    Json,
    UnroutableError,
    metadata,
    namespace_of,
    nothing_live,
    route_name,
    state_of,
)
from serving_config.schema import Configuration

# Of the CRD: hostnames and rules of one route, matches of one rule and of all its rules together.
MAX_HOSTNAMES = 16
MAX_RULES = 16
MAX_MATCHES = 64
MAX_MATCHES_OF_ROUTE = 128


def http_routes(routing: Routing, configuration: Configuration) -> list[Json]:
    """What has no version to answer stands in the platform's namespace, all else beside the
    Services that it names, so that no ReferenceGrant is needed."""
    platform = configuration.platform.kubernetes.namespace
    found = [model for model in routing.models if _is_live(routing, model)]
    rules = [control_rule(), *map(slash_rule, found)]
    rules += [{"matches": matches} for matches in _chunks(refused(routing), MAX_MATCHES)]
    objects = _routes(configuration, rules, platform)
    for environment in routing.environments:
        where = namespace_of(configuration, environment)
        for model in routing.models:
            rules = _small(model_rules(routing, state_of(routing, environment, model)))
            objects += _routes(configuration, rules, where, environment, model)
    return _empty_services(objects) + objects


def _is_live(routing: Routing, model: str) -> bool:
    return any(state_of(routing, name, model).live for name in routing.environments)


def _chunks(items: list[Json], size: int) -> list[list[Json]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _small(rules: Iterable[Json]) -> list[Json]:
    """Rules with more matches than one may have, said several times."""
    return [
        rule | {"matches": matches}
        for rule in rules
        for matches in _chunks(rule["matches"], MAX_MATCHES)
    ]


def _packed(rules: list[Json]) -> Iterator[list[Json]]:
    route: list[Json] = []
    for rule in rules:
        matches = sum(len(other["matches"]) for other in [*route, rule])
        if len(route) == MAX_RULES or matches > MAX_MATCHES_OF_ROUTE:
            yield route
            route = []
        route.append(rule)
    if route:
        yield route


def _routes(
    configuration: Configuration,
    rules: list[Json],
    where: str,
    environment: str = "",
    model: str = "",
) -> list[Json]:
    name = route_name(*(part for part in (model or "slipway", environment) if part))
    return [
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": metadata(f"{name}-{number}", where, environment, model),
            "spec": _parents(configuration) | {"rules": packed},
        }
        for number, packed in enumerate(_packed(rules), 1)
    ]


def _parents(configuration: Configuration) -> Json:
    settings = configuration.platform.kubernetes
    if len(settings.hostnames) > MAX_HOSTNAMES:
        raise UnroutableError(
            f"platform.yaml: kubernetes.hostnames: an HTTPRoute has {MAX_HOSTNAMES} at most, "
            f"these are {len(settings.hostnames)}; a wildcard such as *.example.com may do"
        )
    namespace, name = settings.gateway.split("/")
    spec: Json = {"parentRefs": [{"name": name, "namespace": namespace}]}
    return spec | ({"hostnames": list(settings.hostnames)} if settings.hostnames else {})


def _empty_services(routes: list[Json]) -> list[Json]:
    """The Services without pods that the routes name, one in each namespace."""
    wanted = {
        route["metadata"]["namespace"]
        for route in routes
        for rule in route["spec"]["rules"]
        for backend in rule.get("backendRefs", ())
        if backend["name"] == NOTHING_LIVE
    }
    return [nothing_live(namespace) for namespace in sorted(wanted)]
