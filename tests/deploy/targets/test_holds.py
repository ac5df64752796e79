import subprocess
import sys
from pathlib import Path

from deploy.home import Home
from deploy.targets.holds import alone, holding

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
