"""The supervisor: one process that starts the platform's parts and keeps them alive (circus).

`python -m deploy.supervisor` runs it in the foreground; `slipway up` starts that detached. With
`model-servers` it has those alone, beside parts that run by themselves (`slipway run`). It takes
its settings from SLIPWAY_HOME and SLIPWAY_CONFIG.
"""

import fcntl
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deploy.artifacts.errors import ArtifactsError
from deploy.gateway.envoy import exclusive, write_clusters, write_routes
from deploy.gateway.routes import cluster_name
from deploy.home import Home
from deploy.ledger import Ledger, open_ledger
from deploy.live import configured
from deploy.logs import keep_logs_small
from deploy.platform import LocalPlatform
from deploy.processes import end_all, free_ports
from deploy.release import ReleaseError, bring
from deploy.supervision import (
    MODEL_SERVERS,
    ProcessSpec,
    endpoint,
    pid_namespace,
    process_status,
)
from deploy.targets.local import routing, server_ports, server_process
from serving_config.load import load

_LOCK_SECONDS = 0.5
logger = logging.getLogger("slipway.supervisor")


@contextmanager
def only_one(home: Home, what: str = "") -> Iterator[None]:
    """Held for the supervisor's life; SystemExit where another one runs. what: it has alone.

    `Supervisor.running` holds the lock for a moment when it looks: that is waited out.
    """
    deadline = time.monotonic() + _LOCK_SECONDS
    with (home.run / "supervisor.lock").open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    sys.exit(f"a supervisor is running already in {home.root}")
                time.sleep(0.01)
        lock.truncate(0)
        lock.write(f"{what}\n{pid_namespace()}\n")
        lock.flush()
        yield


def live_servers(platform: LocalPlatform, ledger: Ledger) -> list[ProcessSpec]:
    """One process for each live Bento that is still what was released and is in the settings; the
    rest is left out."""
    specs = []
    states = configured(ledger.states(), platform.configuration)
    ports = iter(free_ports(sum(len(state.live) for state in states.values())))
    for (environment, model), state in states.items():
        settings = platform.configuration.environments[environment]
        for live in state.live:
            name = cluster_name(environment, model, live)
            try:
                bring(platform.home, live.bento, live.bento_digest)
            except (ReleaseError, ArtifactsError) as error:
                logger.error("%s is not started: %s", name, error)
                continue
            spec = server_process(
                *(name, next(ports), live.bento, settings, platform.home),
                features=platform.configuration.features,
                host=platform.host,
            )
            specs.append(spec)
    return specs


def run(platform: LocalPlatform, parts: list[ProcessSpec]) -> None:
    """The parts and the model servers, until told to quit."""
    from circus.arbiter import Arbiter
    from circus.watcher import Watcher

    home = platform.home
    with open_ledger(home, platform.configuration) as ledger:
        servers = live_servers(platform, ledger)
        write_gateway(platform, ledger, server_ports([spec.name for spec in servers]))
    _tell_usage()
    watchers = []
    for spec in [*parts, *servers]:
        described = spec.watcher(home, platform.working_directory)
        options = described.pop("options")
        watchers.append(Watcher(**described, **options))
    threading.Thread(target=keep_logs_small, args=(home.logs,), daemon=True).start()
    events = f"ipc://{home.run / 'supervisor-events.sock'}"
    Arbiter(watchers, endpoint(home), events, check_delay=0.5).start()


def write_gateway(platform: LocalPlatform, ledger: Ledger, ports: Mapping[str, int]) -> None:
    """What the gateway follows: the servers with their ports, and the routes by the ledger."""
    settings = platform.configuration.platform
    with exclusive(platform.home):
        write_clusters(platform.home, ports, settings.gateway.limits, settings.model_servers.host)
        write_routes(platform.home, routing(platform.configuration, ledger))


def _tell_usage() -> None:
    """circus' command for clients in other containers, to whom pids say nothing."""
    from circus.commands.base import Command

    class Usage(Command):  # type: ignore[misc]
        """See `Supervisor.process`."""

        name = "usage"

        def execute(self, arbiter: Any, props: dict[str, Any]) -> dict[str, Any]:
            watcher = self._get_watcher(arbiter, props["name"])
            return asdict(process_status(props["name"], watcher.get_active_pids()))


def _no_conflict(record: logging.LogRecord) -> bool:
    """circus' look after its watchers meets a command in progress; it looks again by itself."""
    return not (record.exc_info and type(record.exc_info[1]).__name__ == "ConflictError")


def main() -> None:
    """The process's entry."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("tornado.application").addFilter(_no_conflict)
    home = Home(Path(os.environ["SLIPWAY_HOME"]))
    folder = Path(os.environ["SLIPWAY_CONFIG"])
    platform = LocalPlatform(home, load(folder), folder)
    only_servers = sys.argv[1:] == [MODEL_SERVERS]
    with only_one(home, MODEL_SERVERS if only_servers else ""):
        # Whatever an earlier crash left behind.
        end_all(home.root, part=MODEL_SERVERS if only_servers else None)
        os.environ.update(platform.environment())
        if only_servers:
            run(platform, [])
        else:
            platform.require_ports()
            platform.write_files()
            run(platform, platform.processes())


if __name__ == "__main__":
    main()
