"""Who is starting a server: locks that the system lets go of when a process ends.

A server is started before the ledger names it, so for a while nothing else tells it from a
leftover. An age would be a guess: a start that is still waited for may take as long as it likes.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.home import Home


def _lock_file(home: Home, name: str) -> Path:
    folder = home.run / "servers"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{name}.lock"


@contextmanager
def holding(home: Home, name: str) -> Iterator[None]:
    """Meanwhile the server is somebody's, of several maybe. Waits until none is `alone` with it."""
    with _lock_file(home, name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


@contextmanager
def alone(home: Home, name: str) -> Iterator[bool]:
    """Whether nobody holds the server; if so, nobody can meanwhile."""
    with _lock_file(home, name).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
