"""CPU and memory of one part of the platform."""

import time

import msgspec

from deploy.supervision import ProcessStatus, Supervisor, SupervisorError

_SECONDS = 0.5


class Usage(msgspec.Struct, frozen=True):
    """cpu_cores: CPU seconds a second, over the last half second; memory_bytes: resident. Both of
    the whole process tree."""

    cpu_cores: float
    memory_bytes: int


def usage(supervisor: Supervisor, name: str) -> Usage:
    """Of a model server, by its cluster name; takes half a second. SupervisorError."""
    watcher = next((item for item in supervisor.names() if item.startswith(f"{name}@")), None)
    if watcher is None:
        raise SupervisorError(f"{name} has no process")
    before, began = supervisor.process(watcher), time.monotonic()
    time.sleep(_SECONDS)
    now = supervisor.process(watcher)
    return Usage(_share(before, now, time.monotonic() - began), now.memory_bytes)


def _share(before: ProcessStatus, now: ProcessStatus, seconds: float) -> float:
    # A process that ended takes its seconds with it.
    return round(max(0.0, now.cpu_seconds - before.cpu_seconds) / seconds, 3)
