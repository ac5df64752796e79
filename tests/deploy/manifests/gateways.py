"""How gateways read routes, written from their specifications and not from what renders them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """weights: `service.namespace` → share in percent. Or the status that the gateway gives itself.

    path: as the server gets it; mirrors: as weights; request, response: headers set, or None for
    those that are removed.
    """

    weights: dict[str, int] = field(default_factory=dict)
    path: str = ""
    status: int = 200
    mirrors: dict[str, int] = field(default_factory=dict)
    request: dict[str, str | None] = field(default_factory=dict)
    response: dict[str, str] = field(default_factory=dict)
    location: str | None = None


# --- Gateway API ---------------------------------------------------------------------------------


def _header_fits(match: Json, headers: Mapping[str, str]) -> bool:
    value = headers.get(match["name"].lower())
    if value is None:
        return False
    if match["type"] == "Exact":
        return bool(value == match["value"])
    found = {bool(re.search(match["value"], value)), bool(re.fullmatch(match["value"], value))}
    assert len(found) == 1, f"it depends on the proxy whether {match} fits {value!r}"
    return found.pop()


def _path_fits(match: Json, path: str) -> bool:
    value = match["value"]
    if match["type"] == "Exact":
        return bool(path == value)
    assert match["type"] == "PathPrefix"
    elements = [part for part in value.split("/") if part]
    return path.split("/")[1 : len(elements) + 1] == elements


def ask_http_routes(objects: list[Json], path: str, headers: Mapping[str, str]) -> Answer:
    """The exact path, then the longest, then the most headers. A tie between rules is an error
    here: by the specification it goes by the age of the routes, then their names."""
    found: dict[tuple[bool, int, int], list[tuple[Json, Json, str]]] = {}
    for route in objects:
        if route["kind"] != "HTTPRoute":
            continue
        for rule in route["spec"]["rules"]:
            for match in rule["matches"]:
                wanted = match.get("headers", ())
                assert len({item["name"].lower() for item in wanted}) == len(wanted)
                if _path_fits(match["path"], path) and all(
                    _header_fits(item, headers) for item in wanted
                ):
                    length = len(match["path"]["value"].rstrip("/"))
                    rank = (match["path"]["type"] == "Exact", length, len(wanted))
                    where = route["metadata"]["namespace"]
                    found.setdefault(rank, []).append((rule, match, where))
    if not found:
        return Answer(status=404)
    best = found[max(found)]
    assert all(rule == best[0][0] or _refuses(rule, best[0][0]) for rule, _, _ in best), best
    rule, match, where = best[0]
    return _by_rule(objects, rule, match, where, path)


def _refuses(*rules: Json) -> bool:
    return all("backendRefs" not in rule and "filters" not in rule for rule in rules)


def _by_rule(objects: list[Json], rule: Json, match: Json, where: str, path: str) -> Answer:
    request: dict[str, str | None] = {}
    response: dict[str, str] = {}
    mirrors = {}
    for item in rule.get("filters", ()):
        if item["type"] == "RequestRedirect":
            redirect = item["requestRedirect"]
            location = redirect["path"]["replaceFullPath"]
            return Answer(status=redirect["statusCode"], location=location)
        if item["type"] == "RequestHeaderModifier":
            change = item["requestHeaderModifier"]
            request |= {each["name"].lower(): each["value"] for each in change.get("set", ())}
            request |= {name.lower(): None for name in change.get("remove", ())}
        elif item["type"] == "ResponseHeaderModifier":
            change = item["responseHeaderModifier"]
            response |= {each["name"].lower(): each["value"] for each in change["set"]}
        elif item["type"] == "RequestMirror":
            mirror = item["requestMirror"]
            mirrors[f"{mirror['backendRef']['name']}.{where}"] = mirror.get("percent", 100)
        else:
            assert item["type"] == "URLRewrite"
            modifier = item["urlRewrite"]["path"]
            assert modifier["type"] == "ReplacePrefixMatch"
            assert len(rule["matches"]) == 1
            rest = path[len(match["path"]["value"]) :]
            path = modifier["replacePrefixMatch"].rstrip("/") + rest or "/"
    backends = rule.get("backendRefs", ())
    weights = {f"{item['name']}.{where}": item.get("weight", 1) for item in backends}
    total = sum(weights.values())
    if not total:
        return Answer(status=500)
    if set(weights) <= _without_pods(objects):
        return Answer(status=503, response=response)
    shares = {name: weight * 100 // total for name, weight in weights.items() if weight}
    return Answer(shares, path, mirrors=mirrors, request=request, response=response)


def _without_pods(objects: list[Json]) -> set[str]:
    return {
        f"{item['metadata']['name']}.{item['metadata']['namespace']}"
        for item in objects
        if item["kind"] == "Service" and "selector" not in item["spec"]
    }


# --- Istio ---------------------------------------------------------------------------------------


def _string_fits(match: Json, value: str | None) -> bool:
    """{} is about the header being there. A regular expression fits the whole text."""
    if value is None or not match:
        return value is not None
    ((kind, wanted),) = match.items()
    if kind == "exact":
        return bool(value == wanted)
    if kind == "prefix":
        return value.startswith(wanted)
    return re.fullmatch(wanted, value) is not None


def _block_fits(match: Json, path: str, headers: Mapping[str, str]) -> bool:
    assert match, "a match must not be empty"
    return (
        _string_fits(match.get("uri", {}), path)
        and all(_string_fits(m, headers.get(n)) for n, m in match.get("headers", {}).items())
        and not any(
            _string_fits(m, headers.get(n)) for n, m in match.get("withoutHeaders", {}).items()
        )
    )


def ask_virtual_service(objects: list[Json], path: str, headers: Mapping[str, str]) -> Answer:
    """The first route of which any block fits."""
    (service,) = (item for item in objects if item["kind"] == "VirtualService")
    for route in service["spec"]["http"]:
        if any(_block_fits(match, path, headers) for match in route["match"]):
            return _by_http(route, path)
    return Answer(status=404)


def _name(destination: Json) -> str:
    host = destination["host"]
    assert host.endswith(".svc.cluster.local")
    return str(host.removesuffix(".svc.cluster.local"))


def _by_http(route: Json, path: str) -> Answer:
    told = route.get("headers", {})
    response = dict(told.get("response", {}).get("set", {}))
    request: dict[str, str | None] = dict(told.get("request", {}).get("set", {}))
    request |= dict.fromkeys(told.get("request", {}).get("remove", ()))
    if direct := route.get("directResponse"):
        return Answer(status=direct["status"], response=response)
    if redirect := route.get("redirect"):
        return Answer(status=redirect["redirectCode"], location=redirect["uri"])
    if rewrite := route.get("rewrite"):
        words = rewrite["uriRegexRewrite"]
        path = re.sub(words["match"], words["rewrite"], path)
    weights = {_name(item["destination"]): item["weight"] for item in route["route"]}
    assert sum(weights.values()) == 100
    mirrors = {
        _name(item["destination"]): item["percentage"]["value"] for item in route.get("mirrors", ())
    }
    return Answer(weights, path, mirrors=mirrors, request=request, response=response)


# --- NGINX ---------------------------------------------------------------------------------------

_NGINX = "nginx.ingress.kubernetes.io/"


def ask_ingresses(objects: list[Json], path: str) -> Answer:
    """`location ~* "^<path>"`, the longest first; then the location's one canary by its weight."""
    main: dict[str, tuple[Json, Json]] = {}
    canaries: dict[str, tuple[Json, Json]] = {}
    for item in objects:
        if item["kind"] != "Ingress":
            continue
        into = canaries if f"{_NGINX}canary" in item["metadata"]["annotations"] else main
        for rule in item["spec"]["rules"]:
            for each in rule["http"]["paths"]:
                assert each["path"] not in into, f"{each['path']} stands twice"
                into[each["path"]] = (item, each)
    assert set(canaries) <= set(main)
    lengths = sorted(main, key=len, reverse=True)
    for text in lengths:
        if found := re.match(text, path, re.IGNORECASE):
            break
    else:
        return Answer(status=404)
    weights = {_backend(*main[text]): 100}
    if text in canaries:
        share = int(canaries[text][0]["metadata"]["annotations"][f"{_NGINX}canary-weight"])
        weights = {_backend(*main[text]): 100 - share, _backend(*canaries[text]): share}
    if set(weights) <= _without_pods(objects):
        return Answer(status=503)
    target = main[text][0]["metadata"]["annotations"].get(f"{_NGINX}rewrite-target")
    if target is not None:
        assert target == "/$2"
        path = f"/{found[2]}"
    return Answer(weights, path)


def _backend(ingress: Json, path: Json) -> str:
    return f"{path['backend']['service']['name']}.{ingress['metadata']['namespace']}"
