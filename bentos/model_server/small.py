"""One model server in one process, without BentoML: `python -m bentos.model_server.small`.

For a machine with little memory. It is the application that BentoML's workers serve, with the same
variables (see service.py), certificate, keys, logs and metrics; there is no master that would start
it again, which is systemd's or a container engine's part then.
"""

import argparse
import contextlib
import re
import signal
import socket
import sys
from pathlib import Path

import uvicorn

from bentos.model_server import event_loop
from bentos.model_server.app import ModelServer
from bentos.model_server.json_logging import log_as_json
from bentos.model_server.lifecycle import Lifecycle
from bentos.model_server.metrics import Metrics
from bentos.model_server.process import quiet_uvicorn
from bentos.model_server.settings import SOURCE_ROOT, from_environment, workers

_BACKLOG = 2048


def tag(source_root: Path) -> str:
    """The tag of the Bento whose sources these are; `unpacked` for a checkout."""
    with contextlib.suppress(OSError):
        text = (source_root.parent / "bento.yaml").read_text()
        found = [re.search(rf"^{key}: (\S+)$", text, re.MULTILINE) for key in ("name", "version")]
        if found[0] and found[1]:
            return f"{found[0][1]}:{found[1][1]}"
    return "unpacked"


def listen(host: str, port: int) -> socket.socket:
    """A socket of that address; OSError where it is taken or not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def serve(listener: socket.socket) -> None:
    """Until SIGTERM or SIGINT, then drain. ValueError for a variable that cannot be read."""
    if workers() != 1:
        raise ValueError("SLIPWAY_WORKERS must be 1 here: bentoml serve has several workers")
    log_as_json()
    event_loop.install()
    quiet_uvicorn()
    lifecycle = Lifecycle(from_environment(tag(SOURCE_ROOT)), Metrics(None))
    config = uvicorn.Config(
        ModelServer(lifecycle), log_config=None, access_log=False, server_header=False
    )
    # uvicorn gives itself the signal once more when all is done: that is no failure.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


def main(arguments: list[str] | None = None) -> None:
    """The command; every error is one line."""
    parser = argparse.ArgumentParser(prog="python -m bentos.model_server.small")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--port", type=int, default=3000)
    given = parser.parse_args(arguments)
    try:
        with listen(given.host, given.port) as listener:
            serve(listener)
    except (OSError, OverflowError) as error:
        sys.exit(f"error: cannot listen on {given.host}:{given.port}: {error}")
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
