"""`slipway features get`: what a feature service answers for an entity now, and how old it is."""

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click
import httpx
from rich.table import Table

from deploy.keys import platform_headers
from deploy.platform import LocalPlatform
from feature_repo.description import FeatureServiceDescription, Field
from orchestration.cli.context import local_platform
from orchestration.cli.output import ago, console, show_json
from orchestration.features.errors import FeatureError
from orchestration.features.store import described_service, read_description


@click.command()
@click.argument("service")
@click.argument("values", nargs=-1, required=True, metavar="KEY=VALUE...")
@click.option("--json", "as_json", is_flag=True, help="The transformer's answer as it is.")
def get(service: str, values: tuple[str, ...], as_json: bool) -> None:
    """What SERVICE answers for an entity now, and how old it is.

    KEY=VALUE: the entity's keys, and what only a request knows.
    """
    platform = local_platform()
    described = described_service(read_description(platform.home), service)
    entities, request = _parsed(described, values)
    body: dict[str, Any] = {"service": service, "entities": [entities]}
    if request:
        body["request"] = [request]
    answer = _ask(platform, body)
    if as_json:
        show_json(answer)
        return
    _show_answer(described, answer)


def _parsed(
    service: FeatureServiceDescription, values: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    given = dict[str, str]()
    for text in values:
        name, equals, value = text.partition("=")
        if not equals:
            raise FeatureError(f"{text!r} is not KEY=VALUE")
        given[name] = value
    known = {field.name: field for field in (*service.entities, *service.request)}
    if unknown := sorted(set(given) - set(known)):
        raise FeatureError(
            f"{service.name} takes no {unknown[0]}; it takes {', '.join(sorted(known))}"
        )
    if missing := [key.name for key in service.entities if key.name not in given]:
        raise FeatureError(f"{service.name} needs {missing[0]}=…")
    typed = {name: _typed(known[name], value) for name, value in given.items()}
    keys = {field.name for field in service.entities}
    return (
        {name: value for name, value in typed.items() if name in keys},
        {name: value for name, value in typed.items() if name not in keys},
    )


def _typed(field: Field, text: str) -> str | int | float | bool:
    try:
        if field.dtype == "string":
            return text
        if field.dtype == "bool":
            return {"true": True, "false": False}[text.lower()]
        return int(text) if field.dtype.startswith("int") else float(text)
    except (ValueError, KeyError) as error:
        raise FeatureError(f"{field.name}: {text!r} is no {field.dtype}") from error


def _ask(platform: LocalPlatform, body: dict[str, Any]) -> dict[str, Any]:
    url = f"{platform.configuration.features.url}/features"
    try:
        response = httpx.post(url, json=body, headers=platform_headers(platform.home), timeout=10)
        answer: dict[str, Any] = response.json()
    except (httpx.HTTPError, ValueError) as error:
        raise FeatureError(
            f"the feature transformer at {url} does not answer ({error}): is the platform up?"
        ) from error
    if response.status_code != httpx.codes.OK:
        raise FeatureError(_refusal(answer) or f"HTTP {response.status_code}")
    return answer


def _refusal(problem: dict[str, Any]) -> str:
    """Each error once: `detail` is the first of them."""
    errors = [f"{item['field']}: {item['message']}" for item in problem.get("errors", [])]
    return "; ".join(errors) or problem.get("detail") or problem.get("title") or ""


def _show_answer(service: FeatureServiceDescription, answer: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("feature", "value", "view", "age", ""):
        table.add_column(name)
    defaulted = answer.get("defaulted", [])
    for item in service.features:
        view = answer.get("views", {}).get(item.view)
        table.add_row(
            item.name,
            str(answer["features"][item.name][0]),
            item.view,
            _age(view["as_of"][0]) if view else "computed now",
            "default" if item.name in defaulted else (view["status"][0] if view else ""),
        )
    console.print(table)


def _age(as_of: str | None) -> str:
    return "" if as_of is None else ago(time.time() - datetime.fromisoformat(as_of).timestamp())
