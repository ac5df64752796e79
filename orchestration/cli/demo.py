"""`slipway demo`: the whole way, from nothing to predictions from production."""

import json
import time
from itertools import groupby
from typing import Any

import click
import httpx
from rich.console import Group
from rich.live import Live as LiveView
from rich.table import Table
from rich.text import Text

from deploy.control.progress import Progress, read_progress
from deploy.dagster_client import FINISHED, DagsterClient, RunStatus
from deploy.dagster_names import job_name
from deploy.keys import platform_headers
from deploy.ledger import open_ledger
from deploy.platform import LocalPlatform
from orchestration.cli.context import local_platform
from orchestration.cli.demo_traffic import Client
from orchestration.cli.follow import render, require_success
from orchestration.cli.models import live_version, registered_versions, train_and_register
from orchestration.cli.output import console
from orchestration.cli.platform import start
from orchestration.cli.status import addresses, dagster_url, gateway_url
from orchestration.release_progress import Reporter, is_release_of, sentence
from serving_config.schema import Model

_TIMEOUT_SECONDS = 600
_POLL_SECONDS = 0.5
_CANARY_MODEL = "iris"

IRIS = ("sepal_length", "sepal_width", "petal_length", "petal_width")
# The bodies of requests to `/predict`.
REQUESTS: dict[str, list[dict[str, Any]]] = {
    "iris": [
        {"features": dict(zip(IRIS, (5.1, 3.5, 1.4, 0.2), strict=True))},
        {"features": dict(zip(IRIS, (6.7, 3.0, 5.2, 2.3), strict=True))},
    ],
    "spam-detector": [
        {
            "entities": {"sender": "sender-017@example.com"},
            "features": {
                "email_content": "CONGRATULATIONS!!! You have WON 1,000,000 EUR. Claim it now"
            },
        },
        {
            "entities": {"sender": "sender-321@example.com"},
            "features": {
                "email_content": "Könnten wir das Treffen auf Donnerstag um 10 Uhr verschieben?"
            },
        },
    ],
    "customer-churn": [{"entities": {"customer_id": number}} for number in (17, 1024)],
}


class DemoError(RuntimeError):
    """The demo did not get to its end; the message says where it stopped."""


@click.command()
def demo() -> None:
    """Start everything, take three models to production, and release a second version by canary."""
    platform = local_platform()
    start(platform)
    models = [m for m in platform.configuration.models.values() if m.name in REQUESTS]
    wanted = {model.name: _trained(platform, model) for model in models}
    _watch(platform, wanted)
    for name in wanted:
        for body in REQUESTS[name]:
            _ask(platform, name, body)
    if _CANARY_MODEL in wanted:
        _second_version(platform, platform.configuration.models[_CANARY_MODEL])
    _where_to_look(platform)


def _trained(platform: LocalPlatform, model: Model) -> int:
    """The version to wait for: one in production or on its way, else one trained now."""
    if known := registered_versions(platform, model):
        return known[-1]
    return train_and_register(platform, model).version


def _watch(platform: LocalPlatform, wanted: dict[str, int]) -> None:
    """Until production serves each version; DemoError or RunFailedError when one does not."""
    dagster = DagsterClient(dagster_url(platform))
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    waiting = {n: v for n, v in wanted.items() if not _arrived(platform, dagster, n, v)}
    lines = Reporter(lambda text: console.print(f"  {text}", soft_wrap=True, markup=False))
    with LiveView(console=console, refresh_per_second=4, transient=True) as view:
        while any(not _arrived(platform, dagster, *item) for item in waiting.items()):
            if time.monotonic() > deadline:
                raise DemoError(f"not in production after {_TIMEOUT_SECONDS} s: {dagster.url}/runs")
            found = _releases(platform, waiting)
            view.update(
                Group(_progress(dagster, waiting), *(Text(sentence(item)) for item in found))
            )
            if not console.is_terminal:
                for item in found:
                    lines.look(item, time.monotonic())
            time.sleep(_POLL_SECONDS)
    console.print(_progress(dagster, wanted))


def _arrived(platform: LocalPlatform, dagster: DagsterClient, model: str, version: int) -> bool:
    """Whether the version got to production, also if somebody put another one in front since."""
    runs = _runs(dagster, model, version)
    for run in runs:
        if run.status in FINISHED:
            require_success(dagster, run)
    promoted = any(run.job == job_name(model, "production") for run in runs)
    live = live_version(platform, "production", model) == str(version)
    return (promoted or live) and all(run.status in FINISHED for run in runs)


def _runs(dagster: DagsterClient, model: str, version: int) -> list[RunStatus]:
    """The version's latest run of each job, in the order they go."""
    jobs = [job_name(model, target) for target in ("staging", "production")]
    return [run for job in jobs for run in dagster.runs(job, str(version))[:1]]


def _progress(dagster: DagsterClient, wanted: dict[str, int]) -> Table:
    table = Table.grid(padding=(0, 6))
    cells = []
    for name, version in wanted.items():
        runs = _runs(dagster, name, version)
        cell = Table.grid()
        cell.add_row(f"[bold]{name}[/] version {version}")
        now = time.time()
        cell.add_row(render(runs, now) if runs else "[dim]the sensor looks for new versions[/]")
        if runs:
            end = runs[-1].ended if runs[-1].status in FINISHED else None
            cell.add_row(f"[dim]{(end or now) - runs[0].created:.1f} s in all[/]")
        cells.append(cell)
    table.add_row(*cells)
    return table


def _releases(platform: LocalPlatform, wanted: dict[str, int]) -> list[Progress]:
    """How far the canaries are."""
    found = ((read_progress(platform.home, "production", n), v) for n, v in wanted.items())
    return [item for item, version in found if item and is_release_of(item, str(version))]


def _second_version(platform: LocalPlatform, model: Model) -> None:
    """Release another version while clients ask; nothing where there are two already."""
    if len(registered_versions(platform, model)) > 1:
        return
    console.print(f"\n[bold]A second version of {model.name}, while clients ask[/]")
    begun = live_version(platform, "production", model.name)
    version = train_and_register(platform, model).version
    url = f"{gateway_url(platform)}/models/{model.name}/predict"
    headers = {"X-Environment": "production"} | platform_headers(platform.home)
    with Client(url, headers, _flowers()) as client:
        _watch(platform, {model.name: version})
    shares = _shares(platform, model.name, str(version))
    if shares[-1:] != [100]:
        raise DemoError(f"version {version} has {shares[-1:] or 'no'} % of {model.name}'s traffic")
    _say_who_answered(client, shares, (str(begun), str(version)))
    console.print(f"  back to version {begun}: `slipway rollback {model.name}`")


def _flowers() -> list[dict[str, Any]]:
    """All rows of the data in an order by chance: traffic as the model was trained for."""
    import pandas as pd

    from orchestration.examples.iris import flowers

    rows = pd.concat([part.features for part in flowers()]).sample(frac=1, random_state=0)
    return [{"features": row} for row in rows.to_dict("records")]


def _shares(platform: LocalPlatform, model: str, label: str) -> list[int]:
    """The version's shares of production's traffic, one after the other."""
    with open_ledger(platform.home, platform.configuration) as ledger:
        events = ledger.events(model, "production")
    shares = [live.weight for event in events for live in event.live if live.label == label]
    return [share for share, _ in groupby(shares) if share]


def _say_who_answered(client: Client, shares: list[int], labels: tuple[str, ...]) -> None:
    steps = " → ".join(f"{share} %" for share in shares)
    answered = ", ".join(f"version {label} answered {client.answered[label]}" for label in labels)
    total = client.answered.total() + client.failed
    name = "canary" if len(shares) > 1 else "released"
    line = f"{name} {steps}, {total} requests: {answered}, {client.failed} failed"
    console.print(f"  [bold]{line}[/]", soft_wrap=True)


def _ask(platform: LocalPlatform, model: str, body: dict[str, Any]) -> None:
    """Send one prediction through the gateway and show both sides."""
    url = f"{gateway_url(platform)}/models/{model}/predict"
    headers = {"X-Environment": "production"} | platform_headers(platform.home)
    response = httpx.post(url, json=body, headers=headers, timeout=10)
    if response.status_code != httpx.codes.OK:
        raise DemoError(f"POST {url} answers {response.status_code}: {response.text[:300]}")
    version = response.headers.get("X-Model-Version")
    console.print(f"\n[bold]POST {url}[/]", soft_wrap=True)
    console.print(f"  → {json.dumps(body, ensure_ascii=False)}", soft_wrap=True, markup=False)
    console.print(f"  ← {response.text}", soft_wrap=True, markup=False)
    console.print(f"  [dim]X-Model-Version: {version}, X-Environment: production[/]")


def _where_to_look(platform: LocalPlatform) -> None:
    found = addresses(platform)
    console.print()
    for title, address in (
        ("Dagster: every version, step by step", f"{found['dagster']}/assets"),
        ("MLflow: the registry", f"{found['mlflow']}/#/models"),
        ("API docs of the default model", found.get("docs", found["gateway"])),
        ("is traffic as it was trained for?", "`slipway drift iris`"),
    ):
        console.print(f"  [bold]{title:40}[/]{address}", soft_wrap=True)
    console.print("  [dim]`make status` shows what runs; `make down` stops it[/]")
