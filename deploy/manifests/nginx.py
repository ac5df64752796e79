"""The NGINX ingress controller: paths, and one candidate at a time.

An Ingress cannot match a header but by its one canary, whose requests go to the main version
while the canary has no ready pod. That would answer production's requests from staging, so there
is one environment here, and a version is pinned by its path. The project ended in March 2026:
this is for clusters that still have it.

https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/annotations/
"""

import math

from deploy.events import Live, State
from deploy.gateway.clusters import CONTROL_SECONDS
from deploy.gateway.routes import Routing
from deploy.manifests.names import PORT
from deploy.manifests.route_parts import (
    CONTROL_PORT,
    CONTROL_SERVICE,
    NOTHING_LIVE,
    Json,
    UnroutableError,
    metadata,
    namespace_of,
    nothing_live,
    prefixes,
    route_name,
    service,
    state_of,
    weighted,
)
from serving_config.schema import Configuration

_ANNOTATION = "nginx.ingress.kubernetes.io/"
Paths = dict[str, str]


def ingresses(routing: Routing, configuration: Configuration) -> list[Json]:
    """Regular expressions as paths: of those that fit, the longest text counts."""
    platform = configuration.platform.kubernetes.namespace
    control = _ingress(
        configuration,
        metadata("slipway-control", platform),
        {"/v1(/|$)(.*)": CONTROL_SERVICE},
        {"proxy-read-timeout": str(CONTROL_SECONDS), "proxy-body-size": "4m"},
    )
    if not routing.environments:
        return [control]
    environment = _only(routing)
    where = namespace_of(configuration, environment)
    nobody = {_at("/models"): NOTHING_LIVE} if routing.default_model else {}
    objects = [control, nothing_live(where)]
    for model in routing.models:
        state = state_of(routing, environment, model)
        here = [prefix for prefix, name in prefixes(routing) if name == model]
        objects += _of_model(routing, configuration, state, here)
        nobody |= {path: NOTHING_LIVE for prefix in here for path in _not_live(prefix, model)}
    told = metadata(route_name("refused", environment), where, environment)
    return objects + ([_ingress(configuration, told, nobody, {})] if nobody else [])


def _only(routing: Routing) -> str:
    default = routing.default_environment
    if routing.environments != (default,):
        raise UnroutableError(
            f"traffic: nginx cannot tell environments apart by X-Environment, so only the default "
            f"environment {default!r} may have `target: kubernetes`, here are "
            f"{', '.join(routing.environments)}: use gateway-api or istio, or a cluster each"
        )
    return default


def _of_model(
    routing: Routing, configuration: Configuration, state: State, here: list[str]
) -> list[Json]:
    where = namespace_of(configuration, state.environment)
    main, canary = _sides(state)
    name = route_name(state.model, state.environment)
    told = metadata(name, where, state.environment, state.model)
    shared = {_at(prefix): service(state, main) if main else NOTHING_LIVE for prefix in here}
    seconds = str(math.ceil(routing.response_timeout))
    annotations = {
        "rewrite-target": "/$2",
        "proxy-read-timeout": seconds,
        "proxy-send-timeout": seconds,
        "proxy-body-size": str(configuration.max_body_bytes),
    }
    objects = [_ingress(configuration, told, shared | _pins(state, here), annotations)]
    if canary:
        told = metadata(f"{name}-canary", where, state.environment, state.model)
        share = {"canary": "true", "canary-weight": str(canary.weight)}
        paths = {path: service(state, canary) for path in shared}
        objects.append(_ingress(configuration, told, paths, share))
    return objects


def _sides(state: State) -> tuple[Live | None, Live | None]:
    """(who has most of the traffic, who has the rest)."""
    here = f"of {state.model} in {state.environment}"
    mirrored = [live.label for live in state.live if live.mirror > 0]
    if mirrored:
        raise UnroutableError(
            f"traffic: nginx cannot mark mirrored requests, so nothing could be compared with "
            f"version {mirrored[0]} {here}: release without a shadow, or use gateway-api or istio"
        )
    shares = sorted(weighted(state), key=lambda live: (-live.weight, live))
    if len(shares) > 2:
        labels = ", ".join(live.label for live in shares)
        raise UnroutableError(
            f"traffic: nginx shares the traffic of two versions, {here} there are {labels}: take "
            "all but two to weight 0, or use gateway-api or istio"
        )
    padded: list[Live | None] = [*shares, None, None]
    return padded[0], padded[1]


def _at(path: str) -> str:
    """Everything at and below a path; `$2` is what is left of it."""
    return f"{path}(/|$)(.*)" if path else "/()(.*)"


def _pins(state: State, here: list[str]) -> Paths:
    paths = {}
    for live in state.live:
        own = f"v2/models/{state.model}/versions/{live.label}"
        for prefix in here:
            paths[f"{prefix}(/)({own}(?:/.*)?)$"] = service(state, live)
            if prefix:
                paths[_at(f"{prefix}/versions/{live.label}")] = service(state, live)
    return paths


def _not_live(prefix: str, model: str) -> list[str]:
    """Where versions are named; those that are live have longer paths."""
    roots = [f"{prefix}/v2/models/{model}/versions"]
    return [_at(root) for root in roots + ([f"{prefix}/versions"] if prefix else [])]


def _ingress(
    configuration: Configuration, told: Json, paths: Paths, annotations: dict[str, str]
) -> Json:
    settings = configuration.platform.kubernetes
    found = {"use-regex": "true"} | annotations
    hosts: list[Json] = [{"host": host} for host in settings.hostnames] or [{}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": told | {"annotations": {_ANNOTATION + key: found[key] for key in found}},
        "spec": {
            "ingressClassName": settings.ingress_class,
            "rules": [
                host | {"http": {"paths": [_path(path, name) for path, name in paths.items()]}}
                for host in hosts
            ],
        },
    }


def _path(path: str, name: str) -> Json:
    port = CONTROL_PORT if name == CONTROL_SERVICE else PORT
    backend = {"service": {"name": name, "port": {"number": port}}}
    return {"path": path, "pathType": "ImplementationSpecific", "backend": backend}
