"""Which processes belong to a platform, also those that lost their parent.

Every process of a platform inherits a variable that names its SLIPWAY_HOME. Whatever dies, and
however, what is left can be found by it and ended.
"""

import os
import socket
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path

import psutil

MARKER = "SLIPWAY_PLATFORM"
# Of a part that runs by itself, and of all that it has started: its name.
PART = "SLIPWAY_PART"


class PortInUseError(RuntimeError):
    """A configured port is taken by somebody else."""


def belonging_to(home: Path, part: str | None = None) -> list[psutil.Process]:
    """All processes whose environment names this home, this process and its parents excepted;
    part: of that one alone."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        try:
            environment = {} if process.pid in own else process.environ()
            if environment.get(MARKER) == str(home) and part in (None, environment.get(PART)):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it ended meanwhile, or is another user's and so none of ours
    return found


def end_all(home: Path, grace_seconds: float = 10.0, part: str | None = None) -> int:
    """End what belongs to the home, or to one part of it: SIGTERM, then SIGKILL. Returns how many
    there were."""
    count = 0
    # A process may fork while it is being ended: look again until nothing is left.
    while processes := [process for process in belonging_to(home, part) if _alive(process)]:
        count += len(processes)
        for process in processes:
            _signal(process, kill=False)
        _, alive = psutil.wait_procs(processes, timeout=grace_seconds)
        for process in alive:
            _signal(process, kill=True)
        psutil.wait_procs(alive, timeout=5)
    return count


def _alive(process: psutil.Process) -> bool:
    """A zombie is not: it waits for its parent, and nothing can be done to it."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signal(process: psutil.Process, *, kill: bool) -> None:
    try:
        if kill:
            process.kill()
        else:
            process.terminate()
    except psutil.NoSuchProcess:
        pass


def free_ports(count: int) -> list[int]:
    """Different TCP ports on 127.0.0.1 that nobody listens on now."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]


def free_port_but(taken: Collection[int]) -> int:
    """A free one that is none of these."""
    return next(port for port in free_ports(len(taken) + 1) if port not in taken)


def require_free(port: int, setting: str, host: str = "127.0.0.1") -> None:
    """Raise PortInUseError naming port, holder where visible, and the setting that moves it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            return
        except PermissionError as error:
            raise PortInUseError(f"port {port} needs root: set {setting}") from error
        except OSError as error:
            raise PortInUseError(
                f"port {port} is in use{_holder(port)}: free it, or set {setting}"
            ) from error


def _holder(port: int) -> str:
    try:
        listeners = [
            connection.pid
            for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:2] == (port,)
        ]
        names = [f"{psutil.Process(pid).name()} (pid {pid})" for pid in listeners if pid]
    except psutil.Error:
        return ""  # other users' sockets may not be looked at; the port is taken all the same
    return f" by {names[0]}" if names else ""
