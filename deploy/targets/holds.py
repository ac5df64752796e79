"""Who is starting a server: locks that the system lets go of when a process ends.

A server is started before the ledger names it, so for a while nothing else tells it from a
leftover. An age would be a guess: a start that is still waited for may take as long as it likes.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from deploy.home import Home


def _lock_file(home: Home, name: str) -> Path:
    folder = home.run / "servers"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{name}.lock"


@contextmanager
def _locked(path: Path, operation: int) -> Iterator[None]:
    """BlockingIOError where `operation` does not wait and somebody else has the lock."""
    while True:
        with path.open("w") as lock:
            fcntl.flock(lock, operation)
            if _is_at(lock.fileno(), path):
                yield
                return


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the file is there still: whoever comes next would lock another one otherwise."""
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


@contextmanager
def holding(home: Home, name: str) -> Iterator[None]:
    """Meanwhile the server is somebody's, of several maybe. Waits until none is `alone` with it."""
    with _locked(_lock_file(home, name), fcntl.LOCK_SH):
        yield


@contextmanager
def alone(home: Home, name: str) -> Iterator[bool]:
    """Whether nobody holds the server; if so, nobody can meanwhile."""
    with ExitStack() as stack:
        try:
            stack.enter_context(_locked(_lock_file(home, name), fcntl.LOCK_EX | fcntl.LOCK_NB))
            is_free = True
        except BlockingIOError:
            is_free = False
        yield is_free


def forget(home: Home, name: str) -> None:
    """Remove the lock of a server that is gone, by who is `alone` with it."""
    _lock_file(home, name).unlink(missing_ok=True)


@contextmanager
def starting(home: Home) -> Iterator[None]:
    """Of several who look whether a server is there and add it, one at a time."""
    with (home.run / "servers.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
