"""What a worker process of BentoML is made into before it serves, and BentoML's configuration."""

import os
from pathlib import Path
from typing import Any

from bentos.model_server.process import METRICS_FOLDER, die_with_master, quiet_uvicorn
from bentos.model_server.settings import workers

# BentoML's own metrics, access log and tracing cost more than the inference, and its timers are
# never cancelled; what passes through it here is a probe now and then.
CONFIG: dict[str, Any] = {
    "workers": workers(),
    "traffic": {"timeout": 5},
    "metrics": {"enabled": False},
    "logging": {"access": {"enabled": False}},
    "tracing": {"excluded_urls": ".*"},
}


def become_worker() -> Path | None:
    """To be called first in each worker; returns the folder in which workers share metrics."""
    from bentos.model_server import event_loop
    from bentos.model_server.json_logging import log_as_json

    die_with_master()
    event_loop.install()
    quiet_uvicorn()
    log_as_json()
    folder = os.environ.get(METRICS_FOLDER)
    return Path(folder) if folder else None
