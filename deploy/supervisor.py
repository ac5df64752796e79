"""The supervisor: one process that starts the platform's parts and keeps them alive (circus).

`python -m deploy.supervisor` runs it in the foreground; `slipway up` starts that detached. It
takes its settings from SLIPWAY_HOME and SLIPWAY_CONFIG.
"""

import fcntl
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.gateway.envoy import write_clusters, write_routes
from deploy.gateway.routes import cluster_name
from deploy.home import Home
from deploy.ledger import Ledger, open_ledger
from deploy.live import configured
from deploy.logs import keep_logs_small
from deploy.platform import LocalPlatform
from deploy.processes import end_all, free_ports
from deploy.release import Release, ReleaseError
from deploy.supervision import ProcessSpec, endpoint
from deploy.targets.local import routing, server_ports, server_process
from serving_config.load import load

_LOCK_SECONDS = 0.5
logger = logging.getLogger("slipway.supervisor")


@contextmanager
def only_one(home: Home) -> Iterator[None]:
    """Held for the supervisor's life; SystemExit where another one runs.

    `Supervisor.running` holds the lock for a moment when it looks: that is waited out.
    """
    deadline = time.monotonic() + _LOCK_SECONDS
    with (home.run / "supervisor.lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    sys.exit(f"a supervisor is running already in {home.root}")
                time.sleep(0.01)
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
                release = Release.load(live.bento, platform.home.bentoml)
                if release.bundle.digest != live.bento_digest:
                    raise ReleaseError(f"Bento {live.bento} is not the one that was released")
            except ReleaseError as error:
                logger.error("%s is not started: %s", name, error)
                continue
            spec = server_process(
                *(name, next(ports), live.bento, settings, platform.home),
                features=platform.configuration.features,
            )
            specs.append(spec)
    return specs


def run(platform: LocalPlatform) -> None:
    """Until told to quit. Whatever an earlier crash left behind is ended first."""
    from circus.arbiter import Arbiter
    from circus.watcher import Watcher

    home = platform.home
    ledger = open_ledger(home, platform.configuration)
    servers = live_servers(platform, ledger)
    platform.write_files()
    limits = platform.configuration.platform.gateway.limits
    write_clusters(home, server_ports([spec.name for spec in servers]), limits)
    write_routes(home, routing(platform.configuration, ledger))
    ledger.close()
    watchers = []
    for spec in [*platform.processes(), *servers]:
        described = spec.watcher(home, platform.working_directory)
        options = described.pop("options")
        watchers.append(Watcher(**described, **options))
    threading.Thread(target=keep_logs_small, args=(home.logs,), daemon=True).start()
    events = f"ipc://{home.run / 'supervisor-events.sock'}"
    Arbiter(watchers, endpoint(home), events, check_delay=0.5).start()


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
    with only_one(home):
        end_all(home.root)
        platform.require_ports()
        os.environ.update(platform.environment())

        run(platform)


if __name__ == "__main__":
    main()
