"""What our server does behind the gateway, over its capacity, and after a long time."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import psutil

from benchmarks import load, servers
from benchmarks.catalogue import OURS, bento
from benchmarks.matrix import Sample, measured
from benchmarks.measure import Processes
from benchmarks.models import Model
from benchmarks.servers import Running
from deploy.events import State
from deploy.gateway.envoy import (
    GatewayAdmin,
    envoy_command,
    write_clusters,
    write_routes,
    write_static,
)
from deploy.gateway.routes import Routing, cluster_name
from deploy.home import Home
from deploy.processes import MARKER, end_all, free_port
from deploy.release import Release
from serving_config.gateway import Gateway as Settings
from serving_config.gateway import Limits, RateLimit
from serving_config.schema import Serving

_ENVIRONMENT = "staging"
_UP_SECONDS = 15


@dataclass(frozen=True)
class Gateway:
    """The same server directly and behind Envoy; envoy_us: Envoy's own CPU, a request."""

    model: str
    direct: Sample
    behind: Sample
    envoy_us: float


@dataclass(frozen=True)
class Overload:
    """capacity: requests a second that were measured before; cpu_us: the server's, for each answer
    or refusal; probes: answers of /ready by status, 0 for none within a second."""

    model: str
    capacity: float
    load: load.Open
    connections: int
    cpu_us: float
    probes: dict[int, int]


@dataclass(frozen=True)
class Soak:
    """Memory under full load, early and at the end."""

    model: str
    seconds: int
    early_seconds: int
    early_mb: float
    end_mb: float
    failed: int


@contextmanager
def _envoy(model: Model, up: Running, work: Path) -> Iterator[tuple[load.Target, Processes]]:
    home = Home(work / "gateway").create()
    store = servers.folder_of(OURS, work) / "bentoml"
    live = Release.load(bento(model, store), store).live()
    port = free_port()
    # Counted all the same, but never reached.
    most = RateLimit(requests_per_second=1_000_000)
    limits = Limits(per_key=most, per_address=most)
    write_static(home, Settings(port=port, limits=limits), Serving().max_body_bytes)
    write_clusters(home, {cluster_name(_ENVIRONMENT, model.name, live): up.port}, limits)
    state = State(_ENVIRONMENT, model.name, 1, (live,))
    routes = Routing((_ENVIRONMENT,), _ENVIRONMENT, (model.name,), None, (state,))
    version = write_routes(home, routes)
    with (home.logs / "gateway.log").open("wb") as log:
        process = subprocess.Popen(
            envoy_command(home),
            env=os.environ | {MARKER: str(home.root)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        admin = GatewayAdmin(home)
        deadline = time.monotonic() + _UP_SECONDS
        while not admin.ready() and time.monotonic() < deadline:
            time.sleep(0.05)
        admin.wait_for("rds", version)
        url = f"http://127.0.0.1:{port}/models/{model.name}{OURS.path}"
        yield replace(up.target, url=url), Processes(psutil.Process(process.pid), home.root)
    finally:
        process.terminate()
        process.wait(timeout=10)
        end_all(home.root)


def gateway(model: Model, work: Path, seconds: int) -> Gateway:
    """64 connections, directly and then behind Envoy."""
    with (
        servers.running(OURS, model, work) as up,
        _envoy(model, up, work) as (target, processes),
    ):
        for warm in (up.target, target):
            load.closed(warm, 64, 1)
        direct = measured(up, 64, seconds)
        before = processes.cpu_seconds()
        behind = measured(replace(up, target=target), 64, seconds)
        used = processes.cpu_seconds() - before
        return Gateway(model.name, direct, behind, used / max(1, behind.requests) * 1e6)


def overload(model: Model, work: Path, capacity: float, connections: int, seconds: int) -> Overload:
    """Four times the capacity is offered; readiness is asked all the while."""
    probes: dict[int, int] = {}
    done = threading.Event()

    def ask(url: str) -> None:
        with httpx.Client(timeout=1) as client:
            while not done.wait(0.1):
                try:
                    status = client.get(url).status_code
                except httpx.HTTPError:
                    status = 0
                probes[status] = probes.get(status, 0) + 1

    with servers.running(OURS, model, work) as up, ThreadPoolExecutor(1) as pool:
        load.closed(up.target, 64, 1)
        before = up.processes.cpu_seconds()
        asking = pool.submit(ask, f"http://127.0.0.1:{up.port}/ready")
        try:
            run = load.open_loop(up.target, connections, 4 * capacity, seconds)
        finally:
            done.set()
        asking.result()
        used = (up.processes.cpu_seconds() - before) / max(1, run.statuses.total()) * 1e6
    return Overload(model.name, capacity, run, connections, used, probes)


def soak(model: Model, work: Path, seconds: int) -> Soak:
    """64 connections for that long; memory after a tenth of it (a minute of ten) and at the end."""
    early = max(1, seconds // 10)
    with servers.running(OURS, model, work) as up, ThreadPoolExecutor(1) as pool:
        started = time.monotonic()
        running = pool.submit(load.closed, up.target, 64, seconds)
        memory: list[float] = []
        for moment in (early, seconds - 0.5):
            while time.monotonic() - started < moment:
                time.sleep(min(1, max(0, started + moment - time.monotonic())))
                os.truncate(up.log, 0)  # its access log would fill the disk
            memory.append(up.processes.memory_bytes() / 1e6)
        return Soak(model.name, seconds, early, memory[0], memory[1], running.result().failed)
