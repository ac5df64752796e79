"""`slipway status`: what runs, where, since when, and which versions are live."""

import json
import time
from datetime import datetime
from typing import Any

import click
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from deploy.control.alert import read_alerts
from deploy.gateway.routes import cluster_name
from deploy.live import configured
from deploy.monitoring.catalog import LABELS
from deploy.part_health import address, answers, needed
from deploy.parts import running as running_parts
from deploy.platform import LocalPlatform
from deploy.processes import belonging_to
from deploy.supervision import ProcessStatus, Supervisor
from deploy.targets.local import server_ports
from orchestration.addresses import without_password
from orchestration.cli.context import NoLedgerError, existing_ledger, local_home, local_platform
from orchestration.cli.output import ago, console, megabytes
from orchestration.cli.roles import role
from serving_config.load import ConfigurationError


def dagster_url(platform: LocalPlatform) -> str:
    """Dagster's UI."""
    return platform.configuration.platform.dagster.url


def mlflow_url(platform: LocalPlatform) -> str:
    """The registry, without a password."""
    return without_password(platform.configuration.platform.mlflow.uri)


def gateway_url(platform: LocalPlatform) -> str:
    """Where clients send predictions."""
    return platform.configuration.platform.gateway.url


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def status(as_json: bool) -> None:
    """What runs, where, since when, and which versions are live. Exits 3 when it is down."""
    try:
        platform = local_platform()
    except ConfigurationError:
        if processes := _processes(Supervisor(local_home()), None):
            console.print(_process_table(processes))
        raise
    if as_json:
        click.echo(json.dumps(describe(platform), indent=2))
    else:
        show(platform)
    if not (Supervisor(platform.home).running() or running_parts(platform.home)):
        raise click.exceptions.Exit(3)


def describe(platform: LocalPlatform) -> dict[str, Any]:
    """The status as data."""
    supervisor = Supervisor(platform.home)
    parts = describe_parts(platform)
    running = supervisor.running() or bool(parts)
    processes = _processes(supervisor, platform)
    return {
        "home": str(platform.home.root),
        "running": running,
        "parts": parts,
        "addresses": addresses(platform),
        "processes": processes,
        "live": live_versions(
            platform, {item["name"] for item in processes} | cluster_servers(platform)
        ),
        "alerts": firing_alerts(platform) if running else [],
    }


def describe_parts(platform: LocalPlatform) -> list[dict[str, Any]]:
    """Of each part whether it answers, where they run by themselves; nothing under `slipway up`."""
    if not running_parts(platform.home):
        return []
    return [
        {
            "name": part,
            "address": without_password(address(platform, part)),
            "answers": answers(platform, part),
        }
        for part in needed(platform)
    ]


def _processes(supervisor: Supervisor, platform: LocalPlatform | None) -> list[dict[str, Any]]:
    return [
        {
            "name": item.name.partition("@")[0],
            "port": _port(platform, item),
            "pid": item.pid,
            "started_at": item.started_at,
            "memory_bytes": item.memory_bytes,
            "cpu_seconds": item.cpu_seconds,
        }
        for item in (supervisor.status() if supervisor.running() else [])
    ]


def addresses(platform: LocalPlatform) -> dict[str, str]:
    """Where a person looks."""
    default = platform.configuration.platform.default_model
    found = {
        "gateway": gateway_url(platform),
        "control": f"{gateway_url(platform)}/v1/docs",
        "dagster": dagster_url(platform),
        "mlflow": mlflow_url(platform),
    }
    if default:
        found["docs"] = f"{gateway_url(platform)}/models/{default}/docs"
    return found


def live_versions(platform: LocalPlatform, servers: set[str]) -> list[dict[str, Any]]:
    """What the ledger says is live, and whether a server runs for it.

    A ledger that cannot be read is an error, not emptiness.
    """
    try:
        opened = existing_ledger(platform)
    except NoLedgerError:
        return []
    with opened as ledger:
        states = ledger.states()  # before the events: those of each state are there then
        last = {(e.environment, e.model): e for e in ledger.events()}
        wanted = configured(states, platform.configuration)
        return [
            {
                "environment": environment,
                "model": model,
                "version": live.label,
                "weight": live.weight,
                "mirror": live.mirror,
                "role": role(live, last[environment, model]),
                "bento": live.bento,
                "onnx_sha256": live.onnx_sha256,
                "configured": (environment, model) in wanted,
                "has_server": cluster_name(environment, model, live) in servers,
                "since": last[environment, model].at,
                "by": last[environment, model].actor,
            }
            for (environment, model), state in sorted(states.items())
            for live in state.live
        ]


def cluster_servers(platform: LocalPlatform) -> set[str]:
    """The servers of environments that run on a cluster; TargetError where it does not answer."""
    configuration = platform.configuration
    if all(item.target == "local" for item in configuration.environments.values()):
        return set()
    from deploy.assembly import cluster_targets

    try:
        opened = existing_ledger(platform)
    except NoLedgerError:
        return set()
    with opened as ledger:
        targets = cluster_targets(platform.home, configuration, ledger)
        return {name for target in targets.values() for name in target.servers()}


def firing_alerts(platform: LocalPlatform) -> list[dict[str, Any]]:
    """What fires now, as the platform's own evaluation says; AlertsError."""
    return [
        {
            "alert": alert.labels["alertname"],
            # An alert about a feature view or a schedule has a subject, and no version.
            **{name: alert.labels.get(name) for name in ("severity", *LABELS)},
            "model": alert.labels.get("model") or alert.labels.get("subject"),
            "since": alert.starts_at,
            **alert.annotations,
        }
        for alert in read_alerts(platform.home)
        if alert.state == "firing"
    ]


def _port(platform: LocalPlatform | None, item: ProcessStatus) -> int | None:
    if served := server_ports([item.name]):
        return next(iter(served.values()))
    if platform is None:
        return None
    settings = platform.configuration.platform
    fixed = {
        "gateway": settings.gateway.port,
        "mlflow": settings.mlflow.port,
        "dagster-webserver": settings.dagster.port,
    }
    return fixed.get(item.name)


def show(platform: LocalPlatform) -> None:
    """The status for people."""
    found = describe(platform)
    if not found["running"]:
        console.print(
            f"the platform is [red]down[/] ({escape(found['home'])}); `slipway up` starts it"
        )
        if left := belonging_to(platform.home.root):
            console.print(
                f"[yellow]{len(left)} processes of a crash are left; `up` and `down` end them[/]"
            )
    else:
        if found["parts"]:
            console.print(_part_table(found["parts"]))
        if found["processes"]:
            console.print(_process_table(found["processes"]))
    if live := [item for item in found["live"] if item["configured"]]:
        console.print(_live_table(live))
    for item in found["live"]:
        if not item["configured"]:
            console.print(Text(_unconfigured(item), style="dim"), soft_wrap=True)
    if found["alerts"]:
        console.print(alert_table(found["alerts"]))
    if found["running"]:
        for name, address in found["addresses"].items():
            console.print(f"  [bold]{name:8}[/] {escape(address)}", soft_wrap=True)


def _part_table(parts: list[dict[str, Any]]) -> Table:
    table = Table("part", "address", "", box=None, header_style="dim")
    for item in parts:
        said = "[green]answers[/]" if item["answers"] else "[red]does not answer[/]"
        table.add_row(item["name"], item["address"], said)
    return table


def _process_table(processes: list[dict[str, Any]]) -> Table:
    table = Table("process", "port", "pid", "up", "memory", box=None, header_style="dim")
    for item in processes:
        since = ago(time.time() - item["started_at"]) if item["started_at"] else "[red]down[/]"
        port, pid = str(item["port"] or ""), str(item["pid"] or "")
        table.add_row(item["name"], port, pid, since, megabytes(item["memory_bytes"]))
    total = sum(item["memory_bytes"] for item in processes)
    table.add_row("", "", "", "", f"[bold]{megabytes(total)}[/]")
    return table


def _unconfigured(item: dict[str, Any]) -> str:
    what = f"{item['model']} {item['version']} in {item['environment']}"
    left = ", its server stops at the next `slipway up`" if item["has_server"] else ""
    return f"{what}: not configured any more{left}"


def _live_table(live: list[dict[str, Any]]) -> Table:
    columns = ("live", "environment", "version", "weight", "", "since", "by")
    table = Table(*columns, box=None, header_style="dim")
    for item in live:
        version = (
            item["version"] if item["has_server"] else f"[red]{item['version']} (no server)[/]"
        )
        since = ago(time.time() - datetime.fromisoformat(item["since"]).timestamp())
        weight = f"{item['weight']} %"
        row = (item["model"], item["environment"], version, weight, item["role"], since)
        table.add_row(*row, escape(item["by"]))
    return table


def alert_table(alerts: list[dict[str, Any]]) -> Table:
    """The alerts that `firing_alerts` found."""
    table = Table("alert", "model", "environment", "version", "since", "what", box=None)
    table.header_style = "dim"
    for item in alerts:
        colour = {"critical": "red", "warning": "yellow"}.get(item["severity"], "cyan")
        since = ago(time.time() - datetime.fromisoformat(item["since"]).timestamp())
        # The ledger's words are in it: text, not markup.
        what = escape(item["description"].partition(" Look:")[0])
        where = (item["model"], item["environment"], item["version"])
        table.add_row(f"[{colour}]{item['alert']}[/]", *where, since, what)
    return table
