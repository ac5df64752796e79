"""Where the control process listens, and the lock that one process of a home holds.

Always on a UNIX socket; with `control.port` on TCP too, for a gateway on another machine.
"""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from deploy.home import Home
from serving_config.schema import Platform

_LOCK_SECONDS = 3.0  # one that was told to end may take two


class AlreadyRunningError(RuntimeError):
    """Another control process has the home."""


def address(platform: Platform) -> tuple[str, int] | None:
    """Where the API listens on TCP, if anywhere."""
    port = platform.control.port
    return None if port is None else (platform.host, port)


def is_public(place: tuple[str, int] | None) -> bool:
    """Whether others than this machine's users may come: then nobody is let in without a key."""
    return place is not None and place[0] not in ("127.0.0.1", "::1", "localhost")


@contextmanager
def listening(home: Home, place: tuple[str, int] | None = None) -> Iterator[list[socket.socket]]:
    """`run/control.sock`, for this user alone, and `place`. What a killed process left there is
    replaced: the kernel gave its lock back. Raises AlreadyRunningError where one holds it."""
    path = home.run / "control.sock"
    with (home.run / "control.lock").open("w") as lock:
        _lock(lock.fileno(), home)
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            before = os.umask(0o177)
            try:
                listener.bind(str(path))
            finally:
                os.umask(before)
            listener.listen(128)
            try:
                with _reachable(place) as others:
                    yield [listener, *others]
            finally:
                path.unlink(missing_ok=True)


@contextmanager
def _reachable(place: tuple[str, int] | None) -> Iterator[list[socket.socket]]:
    if place is None:
        yield []
        return
    family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
    with socket.create_server(place, family=family, backlog=128) as listener:
        yield [listener]


def _lock(descriptor: int, home: Home) -> None:
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise AlreadyRunningError(
                    f"a control process is running already in {home.root}"
                ) from None
            time.sleep(0.05)
