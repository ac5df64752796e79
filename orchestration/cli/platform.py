"""`slipway up`, `down`, `status`."""

import fcntl
import os
import subprocess
import sys
import time
from contextlib import suppress

import click
import httpx

from bentos.feature_transformer.settings import FeaturesError
from deploy.dagster_client import DagsterClient, DagsterError
from deploy.dagster_names import job_name
from deploy.features import TRANSFORMER, transformer_url
from deploy.gateway.envoy import GatewayAdmin, GatewayError
from deploy.home import Home
from deploy.ledger import open_ledger
from deploy.parts import running
from deploy.platform import LocalPlatform
from deploy.processes import end_all
from deploy.supervision import Supervisor, SupervisorError
from deploy.supervisor import live_servers
from deploy.targets.holds import starting
from deploy.targets.local import LocalTarget, server_ports
from orchestration.bento_builder import BuildError
from orchestration.cli.context import local_home, local_platform
from orchestration.cli.output import console, step
from orchestration.cli.status import dagster_url, describe, gateway_url, mlflow_url, show
from orchestration.features_setup import ApplyError, ensure_features, follow_features

_READY_SECONDS = 120
_RUNS_SECONDS = 600
_DRAIN_SECONDS = 5
_POLL_SECONDS = 0.2
_END_A_RUN = "one that follows a canary may be terminated there, the release goes on without it"


class StartError(RuntimeError):
    """The platform did not come up; the message says which part and where its log is."""


def start(platform: LocalPlatform) -> None:
    """Bring the platform up and wait until every part answers; harmless where it is up."""
    supervisor = Supervisor(platform.home.create())
    if parts := running(platform.home):
        raise StartError(f"parts of it run by themselves in {platform.home.root}: {_listed(parts)}")
    with (platform.home.run / "up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two at once, the second finds it up
        failure = _keep_up(platform, supervisor) if supervisor.running() else _start_anew(platform)
    if failure is not None:
        raise StartError(f"the platform is up, but its features are not as defined: {failure}")


def _listed(parts: list[str]) -> str:
    return f"{', '.join(parts)}; end them first (`slipway run`)"


def _ensure_features(platform: LocalPlatform) -> Exception | None:
    """What fails there, of which most models know nothing: the transformer that was built last, if
    there is one, goes on."""
    try:
        ensure_features(platform)
    except (ApplyError, BuildError, FeaturesError) as error:
        return error
    return None


def _keep_up(platform: LocalPlatform, supervisor: Supervisor) -> Exception | None:
    console.print(f"the platform is up already in {platform.home.root}", markup=False)
    failure = _ensure_features(platform)
    if follow_features(platform):
        console.print("the feature transformer follows changed definitions or settings")
    if platform.started_with() != platform.fingerprint():
        _reload(platform, supervisor)
    else:
        _follow_the_ledger(platform)  # a rollout may have been killed before its routes
    _wait_until_ready(platform, None, features=failure is None)
    return failure


def _start_anew(platform: LocalPlatform) -> Exception | None:
    if ended := end_all(platform.home.root):
        console.print(f"[yellow]ended {ended} processes that an earlier crash left behind[/]")
    platform.require_ports()
    platform.write_files()
    failure = _ensure_features(platform)
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
        _wait_until_ready(platform, process, features=failure is None)
    except BaseException:
        stop(platform.home)  # what came up half is not up
        raise
    return failure


def _reload(platform: LocalPlatform, supervisor: Supervisor) -> None:
    """Bring changed settings into force: definitions and routes. Ports need a new start."""
    dagster = DagsterClient(dagster_url(platform))
    with step("changed settings are read") as say:
        deadline = time.monotonic() + _RUNS_SECONDS
        while running := dagster.in_progress():
            what = f"{', '.join(running)}: {dagster.url}/runs"
            if time.monotonic() > deadline:
                raise StartError(f"runs are still in progress ({what}); {_END_A_RUN}")
            say(f"waiting for {what}; {_END_A_RUN}")
            time.sleep(_POLL_SECONDS)
        supervisor.restart("dagster-code")
        supervisor.restart("dagster-daemon")
        _wait_for_definitions(platform, dagster)
        supervisor.restart("control")
        _follow_the_ledger(platform)
        platform.write_files()


def _follow_the_ledger(platform: LocalPlatform) -> None:
    """Start the live servers that are missing, bring the gateway to what is live, and stop what
    the settings do not have any more."""
    supervisor = Supervisor(platform.home)
    with open_ledger(platform.home, platform.configuration) as ledger:
        with starting(platform.home):
            running = server_ports(supervisor.names())
            for spec in live_servers(platform, ledger):
                if not server_ports([spec.name]).keys() <= running.keys():
                    supervisor.add(spec, platform.working_directory)
        target = LocalTarget(
            platform.home, platform.configuration, ledger, platform.working_directory
        )
        target.route()
        if target.stop_unconfigured():
            target.route()


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

    os.environ.update(platform.environment())  # dagster.yaml may name a variable of these
    for run_id in fail_interrupted_runs(platform.home.dagster):
        console.print(f"[yellow]run {run_id} was interrupted; it will be tried again[/]")


def _wait_until_ready(
    platform: LocalPlatform, process: "subprocess.Popen[bytes] | None", *, features: bool
) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    with step("platform is up") as say:
        while waiting := _not_ready(platform, features=features):
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
        "control": "control",
        "MLflow": "mlflow",
        "webserver": "dagster-webserver",
        "Dagster": "dagster-code",
        "transformer": TRANSFORMER,
    }
    name = next((log for word, log in names.items() if word in about), "supervisor")
    path = platform.home.logs / f"{name}.log"
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return f"last line of {path}: {lines[-1] if lines else '(empty)'}"


def _not_ready(platform: LocalPlatform, *, features: bool) -> list[str]:
    """One sentence for each part that does not answer yet. features: whether the feature
    transformer is one."""
    settings = platform.configuration.platform
    waiting = []
    if not GatewayAdmin(platform.home).ready():
        waiting.append("the gateway does not answer")
    elif not _answers(f"{gateway_url(platform)}/v1/health"):
        waiting.append("the control API does not answer")
    if not _answers(f"{settings.mlflow.uri}/health"):
        waiting.append(f"MLflow does not answer at {mlflow_url(platform)}")
    url = transformer_url(platform.home, platform.configuration)
    # Not /ready: a store that is down has an answer, and keeps nothing else from working.
    if features and url is not None and not _answers(f"{url}/services"):
        waiting.append(f"the feature transformer does not serve features at {url}")
    if reason := DagsterClient(dagster_url(platform)).not_ready():
        waiting.append(f"Dagster: {reason}")
    if not waiting:
        waiting += _servers_not_ready(platform)
    return waiting


def _servers_not_ready(platform: LocalPlatform) -> list[str]:
    servers = server_ports(Supervisor(platform.home).names())
    host = platform.configuration.platform.model_servers.host
    return [
        f"model server {name} is not ready"
        for name, port in servers.items()
        if not _answers(f"http://{host}:{port}/ready")
    ]


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def stop(home: Home) -> int:
    """End every process of the platform, whatever state it is in; returns how many were left."""
    supervisor = Supervisor(home)
    if supervisor.running():
        with suppress(GatewayError):  # what was asked before is answered
            GatewayAdmin(home).drain(_DRAIN_SECONDS)
        with suppress(SupervisorError):  # one that hangs is ended below like the rest
            supervisor.quit()
            deadline = time.monotonic() + 20
            while supervisor.running() and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
    return end_all(home.root)


@click.command()
@click.option("--detach", is_flag=True, help="Return once everything answers.")
def up(detach: bool) -> None:
    """Start the platform; harmless where it is up already."""
    platform = local_platform()
    start(platform)
    show(platform)
    for item in describe(platform)["live"]:
        if item["configured"] and not item["has_server"]:
            raise StartError(
                f"{item['model']} version {item['version']} is live in {item['environment']} but "
                f"has no server; {_last_words(platform, 'supervisor')}"
            )
    if detach:
        return
    console.print("[dim]Ctrl-C stops it; `slipway up --detach` leaves it running[/]")
    try:
        while Supervisor(platform.home).running():
            time.sleep(1)
        raise StartError(_last_words(platform, "supervisor"))
    except KeyboardInterrupt:
        with step("platform is down"):
            stop(platform.home)


@click.command()
def down() -> None:
    """Stop the platform and all its model servers."""
    home = local_home()  # also with settings that cannot be read
    if Supervisor(home).elsewhere():
        raise StartError(f"the parts of {home.root} run in other containers: stop those")
    with step("platform is down"):
        stop(home)
