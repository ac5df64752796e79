"""The driver's process, as the engine sees it: started, listened to, ended with all it started."""

import os
import pickle
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import IO

import psutil

from orchestration.batch import errors
from orchestration.batch.documents import Receipt
from orchestration.batch.engines.ray_messages import (
    Connected,
    Done,
    Ended,
    Failed,
    Loaded,
    Message,
    Order,
    decode,
)
from orchestration.batch.errors import BatchError, EngineError

_MODULE = "orchestration.batch.engines.ray_driver"
# Seconds: to import Ray and to start one; until a cluster answers; for a driver to end.
_START, _CONNECT, _END = 180.0, 15.0, 15.0
# Ray Data notices by itself that nothing goes on, and says more of it; this is for when it hangs.
_GRACE = 30.0


class Driver:
    """pipe: our end; log: what it prints, Ray's own words."""

    def __init__(
        self,
        order: Order,
        process: "subprocess.Popen[bytes]",
        pipe: Connection,
        log: IO[bytes],
    ) -> None:
        self._order, self._process, self._pipe, self._log = order, process, pipe, log
        self._is_over = False

    def receipts(self) -> Iterator[Receipt]:
        """As parts are done; EngineError where that comes to an end before all are."""
        with suppress(OSError):  # where it died at once, the next line finds out
            self._pipe.send_bytes(pickle.dumps(self._order))
        address = self._order.address
        self._expect(Loaded, _START, "Ray could not be loaded")
        if address is None:
            self._expect(Connected, _START, "Ray did not start")
        else:
            nobody = (
                f"no Ray cluster answers at RAY_ADDRESS={address}, by this RAY_AUTH_TOKEN if any,"
            )
            self._expect(Connected, _CONNECT, nobody)
        while not isinstance(message := self._next(self._order.timeout + _GRACE), Ended):
            if isinstance(message, Done):
                yield message.receipt

    def _expect(self, kind: type[Message], seconds: float, otherwise: str) -> None:
        if not isinstance(self._next(seconds, otherwise), kind):
            raise EngineError(otherwise)

    def _next(self, seconds: float, otherwise: str = "no part was done") -> Message:
        try:
            if not self._pipe.poll(seconds):
                raise EngineError(f"{otherwise} within {seconds:g} seconds")
            message = decode(self._pipe.recv_bytes())
        except (EOFError, OSError) as error:
            raise EngineError(f"Ray ended while the job was running: {self._reason()}") from error
        if isinstance(message, Ended):
            self._is_over = True
        if isinstance(message, Failed):
            raise _error(message)
        return message

    def _reason(self) -> str:
        """What killed it, else the last line that it printed."""
        with suppress(subprocess.TimeoutExpired):
            status = self._process.wait(_END)
            if status < 0:
                name = signal.Signals(-status).name
                return f"its driver was killed ({name}): is the memory of this machine too small?"
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "without a word")

    def end(self) -> None:
        """The driver and its Ray: in peace after its last word, else at once."""
        family = session(self._process.pid)
        self._pipe.close()
        for process in _left(family, _END if self._is_over else 0):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        _left(family, _END)
        self._process.wait()


def session(pid: int) -> list[psutil.Process]:
    """All that a driver started, also what lost its parent: Ray's agents outlive theirs."""
    return [process for process in psutil.process_iter() if _session(process) == pid]


def _session(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except OSError:
        return None


def _left(family: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those that still run then."""
    deadline = time.monotonic() + seconds
    while alive := [process for process in family if _is_alive(process)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return alive


def _is_alive(process: psutil.Process) -> bool:
    """Some of them are nobody's children by then, who remain zombies in many containers."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _error(failed: Failed) -> BatchError:
    kind = getattr(errors, failed.kind, EngineError)
    error: BatchError = kind(failed.message)
    return error


@contextmanager
def started(order: Order) -> Iterator[Driver]:
    """Ended with the context, however that ends."""
    ours, theirs = Pipe()
    with tempfile.TemporaryFile() as log, ours:
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", _MODULE, str(theirs.fileno())],
                env=_environment(order),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        driver = Driver(order, process, ours, log)
        try:
            yield driver
        finally:
            driver.end()


def _environment(order: Order) -> dict[str, str]:
    """Of the driver, and of all that a Ray of its own starts: it listens on loopback only, and to
    nobody who does not know the token."""
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}
    path = {"PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path)}
    if order.address is not None:
        return os.environ | quiet | path
    own = {
        # With it, Ray takes 127.0.0.1 at its word; it is on by default on macOS and Windows.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # Killed workers leave their temporary files.
        "TMPDIR": order.folder,
    }
    return os.environ | quiet | path | own
