"""CPU time and memory of a server: all its processes, whichever parent they have now."""

from dataclasses import dataclass
from pathlib import Path

import psutil

from deploy.processes import belonging_to


@dataclass(frozen=True)
class Processes:
    """A server. root: the process that was started; marker: what its environment names.

    Ray's workers overwrite their environment and so are found by their parent only; others lose
    their parent and are found by their environment only.
    """

    root: psutil.Process
    marker: Path

    def all(self) -> list[psutil.Process]:
        """Those that run now."""
        found = {process.pid: process for process in belonging_to(self.marker)}
        if self.root.is_running():
            for process in (self.root, *self.root.children(recursive=True)):
                found[process.pid] = process
        return list(found.values())

    def cpu_seconds(self) -> float:
        """User and system time so far, that of ended and awaited children included."""
        total = 0.0
        for process in self.all():
            try:
                total += sum(process.cpu_times()[:4])
            except psutil.NoSuchProcess:
                continue  # its parent has it among its children's now
        return total

    def memory_bytes(self) -> int:
        """Resident set sizes, summed."""
        total = 0
        for process in self.all():
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total
