"""The control process: the control API, the controller and the alerts.

`python -m deploy.control` runs it; it takes its settings from SLIPWAY_HOME and SLIPWAY_CONFIG. It
may be killed at any moment: what it was doing is on the ledger, and the next one goes on.
"""

import asyncio
import os
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import uvicorn

from bentos.model_server.json_logging import log_as_json
from bentos.model_server.keys import Keys
from deploy.assembly import configured_traffic
from deploy.control.alert import Alert, read_alerts
from deploy.control.alerts import Alerting
from deploy.control.api import control_api
from deploy.control.control import Control
from deploy.control.controller import Controller
from deploy.control.leader import Leader
from deploy.control.listener import AlreadyRunningError, address, is_public, listening
from deploy.control.loops import Loop
from deploy.control.observer import Observer
from deploy.control.usage import usage
from deploy.control.webhooks import Webhooks
from deploy.dagster_client import DagsterClient
from deploy.events import LedgerError
from deploy.features import TRANSFORMER, transformer_url
from deploy.home import Home
from deploy.ledger import Ledger, open_ledger
from deploy.live import configured_clusters
from deploy.monitoring.finding_metrics import FindingMetrics
from deploy.monitoring.targets import PrometheusTargets
from deploy.platform import LocalPlatform
from deploy.supervision import Supervisor
from serving_config.load import ConfigurationError, load

_GRACE_SECONDS = 1
_END_SECONDS = 1.8


class Server(uvicorn.Server):
    """Ends within two seconds of a signal, whatever its threads are doing."""

    died = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Not uvicorn's own, which has the process ended by the signal once more."""
        self._end(0)

    def die(self) -> None:
        """End because a loop is gone; the supervisor starts the process anew."""
        self.died = True
        self._end(1)

    def _end(self, status: int) -> None:
        self.should_exit = True
        watchdog = threading.Timer(_END_SECONDS, os._exit, [status])
        watchdog.daemon = True
        watchdog.start()


class Parts:
    """All that runs in the process, made from the settings."""

    def __init__(self, platform: LocalPlatform, ledger: Ledger) -> None:
        home, configuration = platform.home, platform.configuration
        self._home = home
        traffic = configured_traffic(home, configuration, ledger, platform.working_directory)
        target = traffic.target
        environments = configuration.environments.items()
        ready_seconds = {name: item.ready_timeout_seconds for name, item in environments}
        self.controller = Controller(traffic, home, ready_seconds=ready_seconds)
        window = configuration.platform.alerts.window_seconds
        self.observer = Observer(
            partial(configured_clusters, ledger, configuration), target, window
        )
        self.webhooks = Webhooks(configuration.platform)
        self.alerting = Alerting(
            configuration, self.observer.observations, ledger, home, self.webhooks.send
        )
        self.leader = Leader(home.ledger_url, self.alerting.restore, self.controller.rest)
        self.metrics = FindingMetrics(home, configuration)
        control = configuration.platform.control
        port = self.metrics.serve(platform.host, control.metrics_port)
        own = f"{control.host}:{port}"

        def parts() -> dict[str, str]:
            url = transformer_url(home, configuration)
            return {"control": own} | ({} if url is None else {TRANSFORMER: urlsplit(url).netloc})

        self.scraped = PrometheusTargets(home, ledger, target.servers, parts)
        self.control = Control(
            home=home,
            configuration=configuration,
            ledger=ledger,
            target=target,
            traffic=traffic,
            observer=self.observer,
            keys=Keys(
                home.keys,
                required=home.platform_key.exists() or is_public(address(configuration.platform)),
            ),
            dagster=DagsterClient(configuration.platform.dagster.url),
            usage=partial(usage, Supervisor(home)),
            alerts=self._alerts,
        )

    def loops(self, died: Callable[[], None]) -> list[Loop]:
        """What is done each second: to look in every replica, and to act in the one that leads,
        which a server that is slow to answer does not keep from it."""
        led = [self.leader.led(part.tick) for part in (self.controller, self.alerting)]
        look = [self.observer.tick, self.scraped.tick]
        return [Loop("control", led, died), Loop("observer", look, died)]

    def _alerts(self) -> Sequence[Alert]:
        return self.alerting.current() if self.leader.leading else read_alerts(self._home)

    def close(self) -> None:
        """Let go on what has begun, as long as the process is there."""
        self.webhooks.close()
        self.metrics.close()
        self.controller.close()
        self.leader.close()


def serve(parts: Parts, listeners: list[socket.socket]) -> bool:
    """Until a signal (True), or until a loop has died."""
    server = Server(
        uvicorn.Config(
            control_api(parts.control),
            http="httptools",
            log_config=None,
            access_log=False,  # the gateway has one
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
    )
    loops = parts.loops(server.die)
    for loop in loops:
        loop.start()
    asyncio.run(server.serve(listeners))
    for loop in loops:
        loop.stop()
    parts.close()
    return not server.died


def main() -> None:
    """The process's entry."""
    log_as_json()
    home = Home(Path(os.environ["SLIPWAY_HOME"]))
    folder = Path(os.environ["SLIPWAY_CONFIG"])
    try:
        platform = LocalPlatform(home, load(folder), folder)
        with listening(home, address(platform.configuration.platform)) as listeners:
            ledger = open_ledger(home, platform.configuration)
            good = serve(Parts(platform, ledger), listeners)
    except (ConfigurationError, AlreadyRunningError, LedgerError, OSError) as error:
        sys.exit(f"the control process cannot start: {error}")
    # Not by the interpreter's own end, which would wait for threads.
    os._exit(0 if good else 1)
