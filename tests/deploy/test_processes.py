"""The sweep, with real processes that are marked with a folder of their own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from deploy.processes import (
    MARKER,
    PortInUseError,
    belonging_to,
    end_all,
    free_port,
    require_free,
)

# Says when it is up, then waits for its end. A grandchild loses its parent when that is killed.
WAITS = "print('up', flush=True); import time; time.sleep(300)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITS}"
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {WAITS!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print("up", child.pid, flush=True)
child.wait()
"""
Started = tuple[psutil.Process, list[str]]
Start = Callable[..., Started]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts Python code, marked with a home or not; everything is ended by its pid."""
    children: list[subprocess.Popen[str]] = []
    processes: list[psutil.Process] = []

    def run(code: str, home: Path | None) -> Started:
        marked = {MARKER: str(home)} if home else {}
        environment = {k: v for k, v in os.environ.items() if k != MARKER} | marked
        child = subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True
        )
        children.append(child)
        processes.append(psutil.Process(child.pid))
        assert child.stdout
        words = child.stdout.readline().split()
        processes.extend(psutil.Process(int(pid)) for pid in words[1:])
        return processes[-len(words)], words

    yield run
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    for child in children:
        child.communicate()


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_marked_child_and_its_child_are_ended_and_an_unmarked_process_is_not(
    start: Start, tmp_path: Path
) -> None:
    parent, words = start(PARENT, tmp_path)
    grandchild = psutil.Process(int(words[1]))
    unmarked, _ = start(WAITS, None)
    other, _ = start(WAITS, tmp_path / "other")
    assert {process.pid for process in belonging_to(tmp_path)} == {parent.pid, grandchild.pid}
    assert end_all(tmp_path) == 2
    assert gone(parent)
    assert gone(grandchild)
    assert not gone(unmarked)
    assert not gone(other)


def test_what_lost_its_parent_is_found_all_the_same(start: Start, tmp_path: Path) -> None:
    parent, words = start(PARENT, tmp_path)
    grandchild = psutil.Process(int(words[1]))
    parent.kill()
    assert end_all(tmp_path) >= 1
    assert gone(grandchild)


def test_what_does_not_end_when_asked_is_killed(start: Start, tmp_path: Path) -> None:
    stubborn, _ = start(STUBBORN, tmp_path)
    assert end_all(tmp_path, grace_seconds=0.1) == 1
    assert gone(stubborn)


def test_a_dead_child_that_nobody_has_waited_for_is_not_waited_for(
    start: Start, tmp_path: Path
) -> None:
    zombie, _ = start(WAITS, tmp_path)
    zombie.kill()
    deadline = time.monotonic() + 15
    while zombie.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
    assert end_all(tmp_path) == 0


def test_a_process_that_ends_while_it_is_looked_at_is_no_error(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends between being found and being asked for its status."""
    child, _ = start(WAITS, tmp_path)
    status = psutil.Process.status

    def end_first(process: psutil.Process) -> str:
        if process == child:
            child.kill()
            child.wait()
        return str(status(process))

    monkeypatch.setattr(psutil.Process, "status", end_first)
    assert end_all(tmp_path) == 0
    assert not child.is_running()


def test_the_caller_is_never_ended_even_if_it_is_marked(tmp_path: Path) -> None:
    code = "import sys, deploy.processes as p; print(p.end_all(sys.argv[1]))"
    found = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=os.environ | {MARKER: str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "0"


def test_nothing_to_end_is_nothing(tmp_path: Path) -> None:
    assert end_all(tmp_path) == 0


def test_a_busy_port_is_named_with_its_holder_and_the_setting_that_moves_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PortInUseError) as caught:
            require_free(port, "gateway.port in platform.yaml or SLIPWAY_GATEWAY_PORT")
    message = str(caught.value)
    assert f"port {port} is in use" in message
    assert f"(pid {os.getpid()})" in message
    assert message.endswith("set gateway.port in platform.yaml or SLIPWAY_GATEWAY_PORT")


def test_a_port_that_is_taken_on_all_addresses_is_busy_too() -> None:
    with socket.create_server(("0.0.0.0", 0)) as server, pytest.raises(PortInUseError):  # noqa: S104
        require_free(server.getsockname()[1], "x")


def test_a_free_port_is_free_and_stays_so_after_it_was_looked_at() -> None:
    port = free_port()
    require_free(port, "x")
    require_free(port, "x")
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_port_with_connections_that_are_closing_is_free() -> None:
    """After `down`, `up` does not have to wait for TIME_WAIT."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        accepted.close()
        client.close()
    require_free(port, "x")
