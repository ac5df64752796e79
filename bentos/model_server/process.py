"""What a worker process does about its parent and about SIGTERM.

BentoML's master is circus; its workers lead sessions of their own, so they outlive a master that
was killed and go on serving its port, unless the kernel is told otherwise.
"""

import asyncio
import atexit
import ctypes
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

PR_SET_PDEATHSIG = 1
MASTER_PID = "SLIPWAY_MASTER_PID"
METRICS_FOLDER = "SLIPWAY_METRICS_DIR"
logger = logging.getLogger("slipway.model_server")


def prepare_master(workers: int) -> None:
    """In the master, before it starts workers: tell them its pid and where they share metrics."""
    look_after_workers()
    os.environ[MASTER_PID] = str(os.getpid())
    os.environ.pop(METRICS_FOLDER, None)
    keys = os.environ.get("SLIPWAY_KEYS")
    if keys and os.path.exists(keys):  # also for a worker that starts after it has vanished
        os.environ["SLIPWAY_KEYS_REQUIRED"] = "1"
    if workers > 1:
        folder = tempfile.mkdtemp(prefix="slipway-metrics-")
        os.environ[METRICS_FOLDER] = folder
        atexit.register(shutil.rmtree, folder, ignore_errors=True)


def look_after_workers() -> None:
    """In the master: look every second whether a worker has died.

    BentoML has circus look every ten; meanwhile the master's socket takes connections that nobody
    answers.
    """
    from circus.arbiter import Arbiter

    init = Arbiter.__init__

    def often(self: Arbiter, *args: Any, **options: Any) -> None:
        init(self, *args, **(options | {"check_delay": 1.0}))

    Arbiter.__init__ = often


def die_with_master() -> None:
    """In a worker: be killed when the master dies, even by SIGKILL. Linux only."""
    master = os.environ.get(MASTER_PID)
    if master is None or not sys.platform.startswith("linux"):
        return
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        logger.warning("prctl(PR_SET_PDEATHSIG) failed: %s", os.strerror(ctypes.get_errno()))
    # It may have died before the call above; then nobody will send the signal any more.
    if os.getppid() != int(master):
        os._exit(1)


def quiet_uvicorn() -> None:
    """In a worker: uvicorn puts together a line for its own access log wherever the root logger
    has a handler, also where nobody will write it; ours has the line."""
    logging.getLogger("uvicorn.access").propagate = False


def drain_on_sigterm(
    drain: Callable[[], None], seconds: float, last_answer: Callable[[], float]
) -> None:
    """On SIGTERM call `drain`, and only `seconds` later let uvicorn stop listening.

    A load balancer needs that time to see /ready fail; until then requests are answered. Does
    nothing where there is no event loop's handler to delay (in a test's thread).
    """
    if threading.current_thread() is not threading.main_thread():
        return
    stop = signal.getsignal(signal.SIGTERM)
    if not callable(stop):
        return
    loop = asyncio.get_running_loop()

    def later(number: int, frame: FrameType | None) -> None:
        drain()
        loop.call_soon_threadsafe(loop.call_later, seconds, stop, number, frame)
        # uvicorn waits for every connection: one whose client reads nothing would keep it for ever.
        loop.call_soon_threadsafe(loop.call_later, seconds + last_answer(), os._exit, 0)

    signal.signal(signal.SIGTERM, later)
