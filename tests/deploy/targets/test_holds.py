import subprocess
import sys
import threading
from pathlib import Path

from deploy.home import Home
from deploy.targets.holds import alone, forget, holding
from tests.deploy.gateway.running import until

HOLD = """
import sys
from pathlib import Path
from deploy.home import Home
from deploy.targets.holds import holding

with holding(Home(Path(sys.argv[1])), "iris-1"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_server_is_held_by_whoever_starts_it_until_that_process_ends(tmp_path: Path) -> None:
    home = Home(tmp_path).create()
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            with alone(home, "iris-1") as is_free:
                assert not is_free
            with alone(home, "iris-2") as is_free:
                assert is_free
            with holding(home, "iris-1"):  # two may start the same one
                pass
        finally:
            process.kill()
    with alone(home, "iris-1") as is_free:
        assert is_free
    assert (home.run / "servers").stat().st_mode & 0o777 == 0o700


def test_a_server_is_free_again_after_its_holder_and_after_who_was_alone(tmp_path: Path) -> None:
    home = Home(tmp_path).create()
    with holding(home, "iris-1"), alone(home, "iris-1") as is_free:
        assert not is_free
    for _ in range(2):
        with alone(home, "iris-1") as is_free:
            assert is_free


def is_waited_for(path: Path) -> bool:
    waiting = (line for line in Path("/proc/locks").read_text().splitlines() if "->" in line)
    return any(f":{path.stat().st_ino} " in line for line in waiting)


def test_who_waited_for_a_server_that_is_gone_and_forgotten_holds_the_next_one(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path).create()
    file, held, done = home.run / "servers" / "iris-1.lock", threading.Event(), threading.Event()

    def hold() -> None:
        with holding(home, "iris-1"):
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    with alone(home, "iris-1") as is_free:
        assert is_free
        thread.start()
        until(lambda: is_waited_for(file))
        forget(home, "iris-1")
        assert not file.exists()
    try:
        assert held.wait(30)
        with alone(home, "iris-1") as is_free:
            assert not is_free
    finally:
        done.set()
        thread.join()
