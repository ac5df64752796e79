"""What Prometheus scrapes: the live model servers, as a file for its file_sd.

Envoy is not among them: its admin interface is a UNIX socket, which Prometheus cannot scrape.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from deploy.events import State
from deploy.gateway.routes import cluster_name
from deploy.home import Home, write_atomically


def targets_file(home: Home) -> Path:
    """Where the list is."""
    return home.run / "prometheus" / "targets.json"


def targets(states: Iterable[State], servers: Mapping[str, int]) -> list[dict[str, Any]]:
    """One group for each live version that has a server; servers: cluster name → port."""
    return [
        {
            "targets": [f"127.0.0.1:{servers[name]}"],
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


def write_targets(home: Home, states: Iterable[State], servers: Mapping[str, int]) -> None:
    """Replace the list where it has changed; Prometheus reads it again by itself."""
    path = targets_file(home)
    text = msgspec.json.format(msgspec.json.encode(targets(states, servers)), indent=2)
    try:
        if path.read_bytes() == text:
            return
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, exist_ok=True)
    write_atomically(path, text)
