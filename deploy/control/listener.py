"""The UNIX socket that the control process listens on, and the lock that one process holds."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from deploy.home import Home

_LOCK_SECONDS = 3.0  # one that was told to end may take two


class AlreadyRunningError(RuntimeError):
    """Another control process has the home."""


@contextmanager
def listening(home: Home) -> Iterator[socket.socket]:
    """`run/control.sock`, for this user alone. What a killed process left there is replaced: the
    kernel gave its lock back. Raises AlreadyRunningError where one holds it."""
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
                yield listener
            finally:
                path.unlink(missing_ok=True)


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
