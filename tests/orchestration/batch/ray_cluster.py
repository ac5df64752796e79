"""A real Ray cluster of one machine, with a port of its own on 127.0.0.1, and who works in it."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from deploy.processes import free_port

ROOT = Path(__file__).parents[3]
# As the engine's own Ray: without it, Ray would make the machine's address of 127.0.0.1.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "disabled"}


@contextmanager
def cluster(cpus: int = 2) -> Iterator[str]:
    """Its address. All of its processes end with the context."""
    folder = tempfile.mkdtemp(prefix="ray-cluster-", dir="/tmp")
    address = f"127.0.0.1:{free_port()}"
    log = Path(folder) / "start.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
                *("--node-ip-address=127.0.0.1", f"--port={address.partition(':')[2]}"),
                *(f"--num-cpus={cpus}", "--include-dashboard=false", "--disable-usage-stats"),
                *("--object-store-memory=100000000", f"--temp-dir={folder}"),
            ],
            env=os.environ | LOOPBACK | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        _wait_until_up(process, log)
        yield address
    finally:
        end(process.pid)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_up(process: "subprocess.Popen[bytes]", log: Path) -> None:
    while "Ray runtime started" not in log.read_text():
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
            raise AssertionError(log.read_text())


def end(pid: int) -> None:
    """A process and its children, at once."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        family = [*process.children(recursive=True), process]
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(family, 10)


def workers() -> list[psutil.Process]:
    """The actors that score, in Rays that this process or a child of it started."""
    ours = psutil.Process().children(recursive=True)
    return [process for process in ours if "PartScorer" in title(process)]


def title(process: psutil.Process) -> str:
    """Its command; of an actor its class and method. Empty for one that ended."""
    with suppress(psutil.Error):
        if process.status() != psutil.STATUS_ZOMBIE:
            return " ".join(process.cmdline())
    return ""
