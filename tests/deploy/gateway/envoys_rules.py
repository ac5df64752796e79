"""How Envoy reads a route table, as far as ours goes; test_envoy.py asks Envoy itself."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """weights: cluster → share in percent; path: as the server gets it. Or status and detail."""

    weights: dict[str, int] = field(default_factory=dict)
    path: str = ""
    status: int = 200
    detail: str = ""
    environment: str | None = None
    retry_after: str | None = None


def _header_matches(match: Json, headers: Mapping[str, str]) -> bool:
    value = headers.get(match["name"])
    if match.get("present_match"):
        return value is not None
    if value is None:
        if not match.get("treat_missing_header_as_empty"):
            return False
        value = ""
    string = match["string_match"]
    if "exact" in string:
        return bool(value == string["exact"])
    return re.fullmatch(string["safe_regex"]["regex"], value) is not None


def _matches(match: Json, path: str, headers: Mapping[str, str]) -> bool:
    if (exact := match.get("path")) is not None:
        below = path == exact
    elif (folder := match.get("path_separated_prefix")) is not None:
        below = path == folder or path.startswith(f"{folder}/")
    else:
        below = path.startswith(match["prefix"])
    return below and all(_header_matches(item, headers) for item in match.get("headers", ()))


def ask(table: list[Json], path: str, headers: Mapping[str, str] | None = None) -> Verdict:
    """What Envoy would do with a request; header names in lower case."""
    route = next(route for route in table if _matches(route["match"], path, headers or {}))
    added = {
        item["header"]["key"]: item["header"]["value"]
        for item in route.get("response_headers_to_add", ())
    }
    if direct := route.get("direct_response"):
        return Verdict(
            status=direct["status"],
            detail=direct["body"]["inline_string"],
            retry_after=added.get("retry-after"),
        )
    if redirect := route.get("redirect"):
        return Verdict(path=redirect["path_redirect"], status=307)
    action = route["route"]
    if rewrite := action.get("regex_rewrite"):
        pattern, substitution = rewrite["pattern"]["regex"], rewrite["substitution"]
        path = re.sub(pattern, substitution, path, count=1)
    if split := action.get("weighted_clusters"):
        weights = {item["name"]: item["weight"] for item in split["clusters"]}
    else:
        weights = {action["cluster"]: 100}
    return Verdict(weights, path, environment=added.get("x-environment"))
