"""A server under test: started, held to the model's own answer, and ended with all it started."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil

from benchmarks.load import Target
from benchmarks.measure import Processes
from benchmarks.models import Model
from deploy.processes import MARKER, end_all, free_ports

ROOT = Path(__file__).parent.parent
SCRIPTS = Path(__file__).parent / "peers"
ENVIRONMENTS = ROOT / ".venv-bench"
_READY_SECONDS = 120
_TOLERANCE = 1e-5


class UnusableError(RuntimeError):
    """A server does not answer, or otherwise than the model; the first line says which."""


@dataclass(frozen=True)
class Start:
    """What is run, beside the interpreter: arguments, variables, and headers of each request."""

    arguments: list[str]
    variables: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Server:
    """One kind of server.

    start: given the model, the port and a folder to write to. request: the body for a row.
    answer: the probabilities in a response. distribution: the package whose version is shown.
    environment: a folder below .venv-bench, or None for this very environment.
    """

    name: str
    distribution: str
    start: Callable[[Model, int, Path], Start]
    path: str
    request: Callable[[tuple[float, ...]], Any]
    answer: Callable[[Any], list[float]]
    note: str
    environment: str | None = None

    @property
    def python(self) -> Path:
        """The interpreter that runs it."""
        if self.environment is None:
            return Path(sys.executable)
        return ENVIRONMENTS / self.environment / "bin" / "python"

    @property
    def installed(self) -> bool:
        """Whether it can be started."""
        return self.python.exists()

    @property
    def version(self) -> str:
        """Of its distribution."""
        if self.environment is None:
            return importlib.metadata.version(self.distribution)
        pins = (SCRIPTS / f"{self.environment}.txt").read_text()
        found = re.search(rf"^{self.distribution}(?:\[\w+\])?==(.+)$", pins, re.MULTILINE)
        return found[1] if found else "?"


@dataclass(frozen=True)
class Running:
    """A server that answers correctly."""

    target: Target
    processes: Processes
    port: int
    log: Path


def folder_of(server: Server, work: Path) -> Path:
    """Where it may write."""
    folder = work / server.name.replace(" ", "-")
    folder.mkdir(exist_ok=True)
    return folder


@contextmanager
def running(server: Server, model: Model, work: Path) -> Iterator[Running]:
    """Start it, wait until it answers as the model does, and end all of it."""
    folder = folder_of(server, work)
    port = free_ports(1)[0]
    start = server.start(model, port, folder)
    body = folder / "body.json"
    body.write_bytes(msgspec.json.encode(server.request(model.row)))
    target = Target(
        f"http://127.0.0.1:{port}{server.path}",
        body,
        {"Content-Type": "application/json"} | start.headers,
    )
    log = work / "server.log"
    process = _spawn(server, start, model, port, work, log)
    root = psutil.Process(process.pid)
    try:
        _wait_for_answer(process, server, target, model, log)
        yield Running(target, Processes(root, work), port, log)
    finally:
        _end(process, root, work)


def _spawn(
    server: Server, start: Start, model: Model, port: int, work: Path, log: Path
) -> subprocess.Popen[bytes]:
    variables = {
        "BENCH_ONNX": str(model.folder / "model.onnx"),
        "BENCH_PORT": str(port),
        "BENTOML_DO_NOT_TRACK": "True",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": str(SCRIPTS),
        "PATH": f"{server.python.parent}{os.pathsep}{os.environ['PATH']}",
        MARKER: str(work),
    }
    # To a file, as under the platform's supervisor; appended to, so that it can be cut short.
    log.unlink(missing_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(server.python), *start.arguments],
            cwd=work,
            env=os.environ | variables | start.variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def _wait_for_answer(
    process: subprocess.Popen[bytes], server: Server, target: Target, model: Model, log: Path
) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    with httpx.Client(timeout=10) as client:
        while process.poll() is None and time.monotonic() < deadline:
            try:
                response = client.post(
                    target.url, content=target.body.read_bytes(), headers=target.headers
                )
            except httpx.TransportError:
                time.sleep(0.1)
                continue
            if response.status_code == httpx.codes.OK:
                return _require_equal(model, server.answer(response.json()))
            time.sleep(0.1)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    raise UnusableError(f"did not come up within {_READY_SECONDS} s or ended:\n{tail}")


def _require_equal(model: Model, got: list[float]) -> None:
    gaps = [abs(a - b) for a, b in zip(got, model.probabilities, strict=True)]
    if not max(gaps) <= _TOLERANCE:
        raise UnusableError(f"answers {got} for {model.name}, the model {model.probabilities}")


def _end(process: subprocess.Popen[bytes], root: psutil.Process, work: Path) -> None:
    # Whoever overwrote its environment is found by its parent, and only while that lives.
    children = root.children(recursive=True) if process.poll() is None else []
    process.terminate()
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    end_all(work)
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(children, timeout=5)


def clear(work: Path) -> None:
    """End what is left of a run that was broken off, and its files."""
    end_all(work)
    shutil.rmtree(work, ignore_errors=True)
