"""Talking to the supervisor: circus, over a UNIX socket in the home."""

import fcntl
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any

import psutil

from deploy.home import Home

# The part that has a supervisor of its own.
MODEL_SERVERS = "model-servers"
_BUSY = re.compile("is already running|restarting")
_BUSY_SECONDS, _BUSY_POLL_SECONDS = 120.0, 0.1


class SupervisorError(RuntimeError):
    """The supervisor does not run, or refused a command."""


@dataclass(frozen=True)
class ProcessSpec:
    """One process to keep alive. `name` is the watcher's; `log` names its file below logs/."""

    name: str
    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    grace_seconds: float = 10.0
    log: str = ""

    def watcher(self, home: Home, working_directory: str) -> dict[str, Any]:
        """circus' description of it, with the arbiter's environment plus our own.

        The shell appends the output to the log and is then replaced by the command. circus'
        own redirection is not used: it fails for good when a new process gets the pipe number
        of the one that was killed ("fd added twice").
        """
        log = str(home.logs / f"{self.log or self.name}.log")
        return {
            "name": self.name,
            "cmd": "/bin/sh",
            "args": ["-c", 'exec "$@" >>"$0" 2>&1', log, *self.command],
            "options": {
                "copy_env": True,
                "env": dict(self.environment),
                "working_dir": working_directory,
                "graceful_timeout": self.grace_seconds,
                # The children of a part are that part's own business; leftovers are swept.
                "stop_children": False,
            },
        }


@dataclass(frozen=True)
class ProcessStatus:
    """One watcher's process tree: resident bytes, CPU seconds, start as seconds since 1970."""

    name: str
    pid: int | None
    started_at: float | None
    memory_bytes: int
    cpu_seconds: float


def pid_namespace() -> str:
    """In which namespace this process's pids mean something; containers have their own."""
    return os.readlink("/proc/self/ns/pid")


class Supervisor:
    """A client of the running supervisor of one home."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def running(self) -> bool:
        """Whether a supervisor holds the home's lock."""
        try:
            with (self._home.run / "supervisor.lock").open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return False
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True

    def only_servers(self) -> bool:
        """Whether one runs, and has the model servers alone: the other parts run by themselves."""
        return self.running() and self._lock_says(0) == MODEL_SERVERS

    def elsewhere(self) -> bool:
        """Whether one runs, in another container than this process: its pids mean nothing here."""
        return self.running() and self._lock_says(1) not in ("", pid_namespace())

    def _lock_says(self, line: int) -> str:
        lines = (self._home.run / "supervisor.lock").read_text().splitlines()
        return lines[line] if line < len(lines) else ""

    def _call(self, command: str, timeout: float = 10.0, **properties: Any) -> dict[str, Any]:
        """circus carries out one change at a time and refuses others meanwhile: wait for it."""
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            answer = self._ask(command, timeout, properties)
            if answer.get("status") != "error":
                return answer
            reason = str(answer.get("reason"))
            if not _BUSY.search(reason) or time.monotonic() > deadline:
                raise SupervisorError(f"the supervisor refused {command}: {reason}")
            time.sleep(_BUSY_POLL_SECONDS)

    def _ask(self, command: str, timeout: float, properties: dict[str, Any]) -> dict[str, Any]:
        from circus.client import CircusClient
        from circus.exc import CallError

        client = CircusClient(endpoint=endpoint(self._home), timeout=timeout)
        try:
            answer: dict[str, Any] = client.call({"command": command, "properties": properties})
            return answer
        except CallError as error:
            raise SupervisorError(
                f"the supervisor does not answer ({error}): is the platform up? `slipway up`"
            ) from error
        finally:
            client.stop()

    def names(self) -> list[str]:
        """The watchers."""
        return [str(name) for name in self._call("list")["watchers"]]

    def add(self, process: ProcessSpec, working_directory: str) -> None:
        """Start a process and keep it alive."""
        self._call("add", start=True, **process.watcher(self._home, working_directory))

    def remove(self, name: str, timeout: float) -> None:
        """Stop a process (SIGTERM, after its grace SIGKILL) and forget it."""
        self._call("rm", timeout=timeout, name=name, waiting=True)

    def restart(self, name: str) -> None:
        """Stop and start one process."""
        self._call("restart", timeout=30.0, name=name, waiting=True)

    def quit(self) -> None:
        """Stop everything and end the supervisor; returns when that has begun."""
        self._call("quit", waiting=False)

    def status(self) -> list[ProcessStatus]:
        """What runs, with the memory of the whole tree of each."""
        return [self.process(name) for name in self.names()]

    def process(self, name: str) -> ProcessStatus:
        """One watcher of those."""
        if self.elsewhere():
            answer = self._call("usage", name=name)
            return ProcessStatus(**{item.name: answer[item.name] for item in fields(ProcessStatus)})
        return process_status(name, self._call("list", name=name)["pids"])


def process_status(name: str, pids: list[int]) -> ProcessStatus:
    """Of the processes of a watcher in this process's own namespace."""
    memory, cpu, started = 0, 0.0, None
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            started = root.create_time()
            for process in (root, *root.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    times = process.cpu_times()
                    cpu += times.user + times.system
                    memory += process.memory_info().rss
    return ProcessStatus(name, pids[0] if pids else None, started, memory, cpu)


def endpoint(home: Home) -> str:
    """circus' command socket."""
    return f"ipc://{home.run / 'supervisor.sock'}"
