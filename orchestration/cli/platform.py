"""`slipway up`, `down`, `status`."""

import fcntl
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from datetime import datetime
from typing import Any

import click
import httpx
from rich.table import Table

from deploy.gateway.envoy import GatewayAdmin
from deploy.ledger import Ledger
from deploy.platform import LocalPlatform
from deploy.processes import end_all
from deploy.supervision import ProcessStatus, Supervisor
from deploy.targets.local import LocalTarget, server_ports
from orchestration.cli.context import local_platform
from orchestration.cli.output import ago, console, megabytes, step
from orchestration.dagster_client import DagsterClient, DagsterError

_READY_SECONDS = 120
_POLL_SECONDS = 0.2


class StartError(RuntimeError):
    """The platform did not come up; the message says which part and where its log is."""


def dagster_url(platform: LocalPlatform) -> str:
    """Dagster's UI."""
    return f"http://127.0.0.1:{platform.configuration.platform.dagster.port}"


def gateway_url(platform: LocalPlatform) -> str:
    """Where clients send predictions."""
    return f"http://127.0.0.1:{platform.configuration.platform.gateway.port}"


def job_name(model: str, target: str) -> str:
    """The job that takes a model to staging or production.

    As orchestration.defs.lifecycle.names has it; a test holds the two together. Importing
    Dagster for it would cost every command 2 s.
    """
    return f"{model.replace('-', '_')}_to_{target}"


def start(platform: LocalPlatform) -> None:
    """Bring the platform up and wait until every part answers; harmless where it is up."""
    supervisor = Supervisor(platform.home.create())
    with (platform.home.run / "up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two at once, the second finds it up
        if supervisor.running():
            _keep_up(platform, supervisor)
        else:
            _start_anew(platform)


def _keep_up(platform: LocalPlatform, supervisor: Supervisor) -> None:
    console.print(f"the platform is up already in {platform.home.root}")
    if platform.started_with() != platform.fingerprint():
        _reload(platform, supervisor)
    _wait_until_ready(platform, None)


def _start_anew(platform: LocalPlatform) -> None:
    if ended := end_all(platform.home.root):
        console.print(f"[yellow]ended {ended} processes that an earlier crash left behind[/]")
    platform.require_ports()
    platform.write_files()
    _prepare_dagster(platform)
    with (platform.home.logs / "supervisor.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.supervisor"],
            env=os.environ | platform.environment(),
            cwd=platform.working_directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait_until_ready(platform, process)
    except BaseException:
        stop(platform)  # what came up half is not up
        raise


def _reload(platform: LocalPlatform, supervisor: Supervisor) -> None:
    """Bring changed settings into force: definitions and routes. Ports need a new start."""
    dagster = DagsterClient(dagster_url(platform))
    with step("changed settings are read") as say:
        while running := dagster.in_progress():
            say(f"waiting for {running} runs in progress")
            time.sleep(_POLL_SECONDS)
        supervisor.restart("dagster-code")
        supervisor.restart("dagster-daemon")
        _wait_for_definitions(platform, dagster)
        ledger = Ledger(platform.home.ledger_url)
        target = LocalTarget(
            platform.home, platform.configuration, ledger, platform.working_directory
        )
        target.route()
        ledger.close()
        platform.write_files()


def _wait_for_definitions(platform: LocalPlatform, dagster: DagsterClient) -> None:
    wanted = {job_name(model, "production") for model in platform.configuration.models}
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        with suppress(DagsterError):  # the code server is starting
            if wanted <= dagster.reload():
                return
        time.sleep(_POLL_SECONDS)
    raise StartError(f"the new definitions do not load; {_last_words(platform, 'Dagster')}")


def _prepare_dagster(platform: LocalPlatform) -> None:
    """Its tables, made by one process: two that start at once break them for good."""
    from orchestration.recovery import fail_interrupted_runs

    for run_id in fail_interrupted_runs(platform.home.dagster):
        console.print(f"[yellow]run {run_id} was interrupted; it will be tried again[/]")


def _wait_until_ready(platform: LocalPlatform, process: "subprocess.Popen[bytes] | None") -> None:
    deadline = time.monotonic() + _READY_SECONDS
    with step("platform is up") as say:
        while waiting := _not_ready(platform):
            if process is not None and process.poll() is not None:
                raise StartError(_last_words(platform, "supervisor"))
            if time.monotonic() > deadline:
                raise StartError(
                    f"{waiting[0]} after {_READY_SECONDS} s; {_last_words(platform, waiting[0])}"
                )
            say(waiting[0])
            time.sleep(_POLL_SECONDS)


def _last_words(platform: LocalPlatform, about: str) -> str:
    """The last line of the log of the part that a sentence is about."""
    names = {
        "gateway": "gateway",
        "MLflow": "mlflow",
        "webserver": "dagster-webserver",
        "Dagster": "dagster-code",
    }
    name = next((log for word, log in names.items() if word in about), "supervisor")
    path = platform.home.logs / f"{name}.log"
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return f"last line of {path}: {lines[-1] if lines else '(empty)'}"


def _not_ready(platform: LocalPlatform) -> list[str]:
    """One sentence for each part that does not answer yet."""
    settings = platform.configuration.platform
    waiting = []
    if not GatewayAdmin(platform.home).ready():
        waiting.append("the gateway does not answer")
    if not _answers(f"{settings.mlflow.uri}/health"):
        waiting.append(f"MLflow does not answer at {settings.mlflow.uri}")
    if reason := DagsterClient(dagster_url(platform)).not_ready():
        waiting.append(f"Dagster: {reason}")
    if not waiting:
        waiting += _servers_not_ready(platform)
    return waiting


def _servers_not_ready(platform: LocalPlatform) -> list[str]:
    servers = server_ports(Supervisor(platform.home).names())
    return [
        f"model server {name} is not ready"
        for name, port in servers.items()
        if not _answers(f"http://127.0.0.1:{port}/ready")
    ]


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def stop(platform: LocalPlatform) -> int:
    """End every process of the platform, whatever state it is in; returns how many were left."""
    supervisor = Supervisor(platform.home)
    if supervisor.running():
        supervisor.quit()
        deadline = time.monotonic() + 20
        while supervisor.running() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
    return end_all(platform.home.root)


@click.command()
@click.option("--detach", is_flag=True, help="Return once everything answers.")
def up(detach: bool) -> None:
    """Start the platform; harmless where it is up already."""
    platform = local_platform()
    start(platform)
    show(platform)
    if detach:
        return
    console.print("[dim]Ctrl-C stops it; `slipway up --detach` leaves it running[/]")
    try:
        while Supervisor(platform.home).running():
            time.sleep(1)
        raise StartError(_last_words(platform, "supervisor"))
    except KeyboardInterrupt:
        with step("platform is down"):
            stop(platform)


@click.command()
def down() -> None:
    """Stop the platform and all its model servers."""
    platform = local_platform()
    with step("platform is down"):
        stop(platform)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def status(as_json: bool) -> None:
    """What runs, where, since when, and which versions are live. Exits 3 when it is down."""
    platform = local_platform()
    if as_json:
        click.echo(json.dumps(describe(platform), indent=2))
    else:
        show(platform)
    if not Supervisor(platform.home).running():
        raise click.exceptions.Exit(3)


def describe(platform: LocalPlatform) -> dict[str, Any]:
    """The status as data."""
    supervisor = Supervisor(platform.home)
    running = supervisor.running()
    processes = supervisor.status() if running else []
    return {
        "home": str(platform.home.root),
        "running": running,
        "addresses": addresses(platform),
        "processes": [
            {
                "name": item.name.partition("@")[0],
                "port": _port(platform, item),
                "pid": item.pid,
                "started_at": item.started_at,
                "memory_bytes": item.memory_bytes,
                "cpu_seconds": item.cpu_seconds,
            }
            for item in processes
        ],
        "live": live_versions(platform),
    }


def addresses(platform: LocalPlatform) -> dict[str, str]:
    """Where a person looks."""
    default = platform.configuration.platform.default_model
    found = {
        "gateway": gateway_url(platform),
        "dagster": dagster_url(platform),
        "mlflow": platform.configuration.platform.mlflow.uri,
    }
    if default:
        found["docs"] = f"{gateway_url(platform)}/models/{default}/docs"
    return found


def live_versions(platform: LocalPlatform) -> list[dict[str, Any]]:
    """What the ledger says is live. A ledger that cannot be read is an error, not emptiness."""
    if not (platform.home.root / "ledger.db").exists():
        return []
    ledger = Ledger(platform.home.ledger_url)
    try:
        last = {(e.environment, e.model): e for e in ledger.events()}
        return [
            {
                "environment": environment,
                "model": model,
                "version": live.label,
                "weight": live.weight,
                "bento": live.bento,
                "onnx_sha256": live.onnx_sha256,
                "since": last[environment, model].at,
                "by": last[environment, model].actor,
            }
            for (environment, model), state in sorted(ledger.states().items())
            for live in state.live
        ]
    finally:
        ledger.close()


def _port(platform: LocalPlatform, item: ProcessStatus) -> int | None:
    settings = platform.configuration.platform
    fixed = {
        "gateway": settings.gateway.port,
        "mlflow": settings.mlflow.port,
        "dagster-webserver": settings.dagster.port,
    }
    return fixed.get(item.name) or next(iter(server_ports([item.name]).values()), None)


def show(platform: LocalPlatform) -> None:
    """The status for people."""
    found = describe(platform)
    if not found["running"]:
        console.print(f"the platform is [red]down[/] ({found['home']}); `slipway up` starts it")
    else:
        console.print(_process_table(found["processes"]))
    if found["live"]:
        console.print(_live_table(found["live"]))
    if found["running"]:
        for name, address in found["addresses"].items():
            console.print(f"  [bold]{name:8}[/] {address}", soft_wrap=True)


def _process_table(processes: list[dict[str, Any]]) -> Table:
    table = Table("process", "port", "pid", "up", "memory", box=None, header_style="dim")
    for item in processes:
        since = ago(time.time() - item["started_at"]) if item["started_at"] else "[red]down[/]"
        port, pid = str(item["port"] or ""), str(item["pid"] or "")
        table.add_row(item["name"], port, pid, since, megabytes(item["memory_bytes"]))
    total = sum(item["memory_bytes"] for item in processes)
    table.add_row("", "", "", "", f"[bold]{megabytes(total)}[/]")
    return table


def _live_table(live: list[dict[str, Any]]) -> Table:
    table = Table(
        "live", "environment", "version", "weight", "since", "by", box=None, header_style="dim"
    )
    for item in live:
        since = ago(time.time() - datetime.fromisoformat(item["since"]).timestamp())
        weight = f"{item['weight']} %"
        table.add_row(
            item["model"], item["environment"], item["version"], weight, since, item["by"]
        )
    return table
