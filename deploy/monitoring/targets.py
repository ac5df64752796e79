"""What Prometheus scrapes, as a file for its file_sd: the live model servers, the feature
transformer, and the control process, which tells what the scheduled checks found.

Envoy is not among them: its admin interface is a UNIX socket, which Prometheus cannot scrape.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from deploy.events import State
from deploy.gateway.routes import cluster_name
from deploy.home import Home, write_atomically
from deploy.ledger import Ledger

logger = logging.getLogger("slipway.targets")
Parts = Mapping[str, str]


def targets_file(home: Home) -> Path:
    """Where the list is."""
    return home.run / "prometheus" / "targets.json"


def targets(
    states: Iterable[State], servers: Mapping[str, str], parts: Parts | None = None
) -> list[dict[str, Any]]:
    """One group for each live version that has a server, and for each part of the platform that
    has metrics; servers: cluster name → `host:port`; parts: name → `host:port`."""
    own = [
        {"targets": [address], "labels": {"part": name}}
        for name, address in sorted((parts or {}).items())
    ]
    return own + [
        {
            "targets": [servers[name]],
            "labels": {
                "environment": state.environment,
                "model": state.model,
                "version": live.label,
                "variant": live.variant,
            },
        }
        for state in sorted(states, key=lambda state: (state.environment, state.model))
        for live in sorted(state.live)
        if (name := cluster_name(state.environment, state.model, live)) in servers
    ]


def write_targets(
    home: Home,
    states: Iterable[State],
    servers: Mapping[str, str],
    parts: Parts | None = None,
) -> None:
    """Replace the list where it has changed; Prometheus reads it again by itself."""
    path = targets_file(home)
    listed = targets(states, servers, parts)
    text = msgspec.json.format(msgspec.json.encode(listed), indent=2)
    try:
        if path.read_bytes() == text:
            return
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, exist_ok=True)
    write_atomically(path, text)


class PrometheusTargets:
    """Keeps the list up to date, with a tick each second; servers: cluster name → `host:port`;
    parts: those of the platform that have metrics, and their `host:port`."""

    def __init__(
        self,
        home: Home,
        ledger: Ledger,
        servers: Callable[[], Mapping[str, str]],
        parts: Callable[[], Parts] = dict,
    ) -> None:
        self._home, self._ledger, self._servers, self._parts = home, ledger, servers, parts
        self._failure: str | None = None

    def tick(self) -> None:
        """LedgerError, or what `servers` raises: the list stays as it is. A disk that is full is
        logged, once."""
        states, servers = self._ledger.states().values(), self._servers()
        failure = None
        try:
            write_targets(self._home, states, servers, self._parts())
        except OSError as error:
            failure = str(error.strerror)
        if failure and failure != self._failure:
            logger.error("%s cannot be written: %s", targets_file(self._home), failure)
        self._failure = failure
