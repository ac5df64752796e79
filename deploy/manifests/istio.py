"""Istio: our own gateway's route table in a VirtualService's words.

Both try routes in order and take the first that fits, so nothing is decided here a second time. It
is one object, since Istio does not say in which order it tries those of several.

https://istio.io/latest/docs/reference/config/networking/virtual-service/
"""

import json
import re
from http import HTTPStatus

from deploy.gateway.clusters import CONTROL, mirror_name
from deploy.gateway.routes import COMPARE, Routing, cluster_name, route_table
from deploy.manifests.names import PORT
from deploy.manifests.route_parts import (
    CONTROL_PORT,
    CONTROL_SERVICE,
    Json,
    metadata,
    namespace_of,
    service,
)
from serving_config.schema import Configuration

Destinations = dict[str, Json]


def virtual_services(routing: Routing, configuration: Configuration) -> list[Json]:
    """One VirtualService, in the platform's namespace."""
    settings = configuration.platform.kubernetes
    destinations = _destinations(routing, configuration)
    return [
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": metadata("slipway", settings.namespace),
            "spec": {
                "gateways": [settings.gateway],
                "hosts": list(settings.hostnames) or ["*"],
                "http": [_http(route, destinations) for route in route_table(routing)],
            },
        }
    ]


def _destinations(routing: Routing, configuration: Configuration) -> Destinations:
    """By the name of our own gateway's cluster."""
    platform = configuration.platform.kubernetes.namespace
    found = {CONTROL: _destination(CONTROL_SERVICE, platform, CONTROL_PORT)}
    for state in routing.states:
        where = namespace_of(configuration, state.environment)
        for live in state.live:
            name = cluster_name(state.environment, state.model, live)
            there = _destination(service(state, live), where, PORT)
            found |= {name: there, mirror_name(name): there}
    return found


def _destination(name: str, namespace: str, port: int) -> Json:
    return {"host": f"{name}.{namespace}.svc.cluster.local", "port": {"number": port}}


def _http(route: Json, destinations: Destinations) -> Json:
    response = {
        item["header"]["key"]: item["header"]["value"]
        for item in route.get("response_headers_to_add", ())
    }
    found: Json = {"match": _matches(route["match"])}
    if direct := route.get("direct_response"):
        found |= _problem(direct["status"], direct["body"]["inline_string"])
        response |= {"content-type": "application/problem+json"}
    elif redirect := route.get("redirect"):
        return found | {"redirect": {"uri": redirect["path_redirect"], "redirectCode": 307}}
    else:
        found |= _forward(route["route"], destinations)
    headers: Json = {"response": {"set": response}} if response else {}
    if "route" in found:
        compared = "request_headers_to_add" in route
        headers["request"] = {"set": {COMPARE: "1"}} if compared else {"remove": [COMPARE]}
    return found | {"headers": headers}


def _matches(match: Json) -> list[Json]:
    """Several are alternatives: a header that may be missing has two, for a regular expression
    fits none that is missing."""
    if "path" in match:
        uri = {"exact": match["path"]}
    elif "path_separated_prefix" in match:
        uri = {"regex": f"{re.escape(match['path_separated_prefix'])}(/.*)?"}
    else:
        uri = {"prefix": match["prefix"]}
    found: list[Json] = [{"uri": uri}]
    for header in match.get("headers", ()):
        name, value = header["name"], _value(header)
        given = [item | {"headers": item.get("headers", {}) | {name: value}} for item in found]
        if header.get("treat_missing_header_as_empty") and _fits_empty(value):
            found = given + [item | {"withoutHeaders": {name: {}}} for item in found]
        else:
            found = given
    return found


def _value(header: Json) -> Json:
    """{} fits any value."""
    if header.get("present_match"):
        return {}
    string = header["string_match"]
    return {"exact": string["exact"]} if "exact" in string else dict(string["safe_regex"])


def _fits_empty(value: Json) -> bool:
    return re.fullmatch(value["regex"], "") is not None


def _problem(status: int, detail: str) -> Json:
    title = HTTPStatus(status).phrase
    problem = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return {"directResponse": {"status": status, "body": {"string": json.dumps(problem)}}}


def _forward(action: Json, destinations: Destinations) -> Json:
    if split := action.get("weighted_clusters"):
        shares = [(item["name"], item["weight"]) for item in split["clusters"]]
    else:
        shares = [(action["cluster"], 100)]
    found: Json = {
        "route": [{"destination": destinations[name], "weight": weight} for name, weight in shares],
        "timeout": action["timeout"],
        "retries": {
            "attempts": action["retry_policy"]["num_retries"],
            "retryOn": action["retry_policy"]["retry_on"],
        },
    }
    if rewrite := action.get("regex_rewrite"):
        words = {"match": rewrite["pattern"]["regex"], "rewrite": rewrite["substitution"]}
        found["rewrite"] = {"uriRegexRewrite": words}
    if mirrors := action.get("request_mirror_policies"):
        found["mirrors"] = [_mirror(mirror, destinations) for mirror in mirrors]
    return found


def _mirror(policy: Json, destinations: Destinations) -> Json:
    percent = policy["runtime_fraction"]["default_value"]["numerator"]
    destination = destinations[policy["cluster"]]
    return {"destination": destination, "percentage": {"value": percent}}
