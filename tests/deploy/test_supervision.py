import subprocess
import sys
from pathlib import Path

import pytest

from deploy.home import Home
from deploy.supervision import ProcessSpec, Supervisor, SupervisorError
from deploy.supervisor import only_one

HOLDER = """
import sys
from pathlib import Path
from deploy.home import Home
from deploy.supervisor import only_one
with only_one(Home(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.readline()
"""


def holding(home: Home) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(home.root)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return process


def test_nothing_runs_in_a_home_that_was_never_used(tmp_path: Path) -> None:
    assert Supervisor(Home(tmp_path)).running() is False


def test_a_supervisor_runs_as_long_as_its_process_lives(home: Home) -> None:
    supervisor, process = Supervisor(home), holding(home)
    try:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        assert supervisor.running() is True
        assert supervisor.running() is True
    finally:
        process.kill()  # it has no chance to tidy up, and need not
        process.communicate()
    assert supervisor.running() is False


def test_a_second_supervisor_ends_with_one_sentence(home: Home) -> None:
    first, second = holding(home), None
    try:
        assert first.stdout
        assert first.stdout.readline() == "held\n"
        second = holding(home)
        _, error = second.communicate(timeout=60)
        assert error.strip() == f"a supervisor is running already in {home.root}"
        assert second.returncode == 1
    finally:
        for process in filter(None, (first, second)):
            process.kill()
            process.communicate()


def test_looking_whether_one_runs_does_not_keep_one_from_starting(home: Home) -> None:
    """`slipway status` in another terminal takes the lock for a moment."""
    import fcntl
    from threading import Timer

    (home.run / "supervisor.lock").touch()
    with (home.run / "supervisor.lock").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        timer = Timer(0.1, fcntl.flock, (looking, fcntl.LOCK_UN))
        timer.start()
        try:
            with only_one(home):
                assert Supervisor(home).running() is True
        finally:
            timer.join()


def test_a_supervisor_that_does_not_answer_is_one_sentence_that_says_what_helps(
    home: Home,
) -> None:
    with pytest.raises(SupervisorError, match=r"is the platform up\? `slipway up`") as caught:
        Supervisor(home)._call("list", timeout=0.1)
    assert "\n" not in str(caught.value)


def test_a_process_writes_to_a_log_of_its_own_name(home: Home) -> None:
    home.logs.mkdir(parents=True, exist_ok=True)
    command = ["/bin/sh", "-c", "echo out; echo err >&2; echo $0 $1", "a b", "c"]
    spec = ProcessSpec("iris@123", command, {"A": "b"}, 5, log="iris")
    watcher = spec.watcher(home, "/there")
    options = watcher["options"]
    assert (options["env"], options["working_dir"]) == ({"A": "b"}, "/there")
    assert options["graceful_timeout"] == 5
    subprocess.run([watcher["cmd"], *watcher["args"]], check=True)
    assert (home.logs / "iris.log").read_text() == "out\nerr\na b c\n"
    unnamed = ProcessSpec("mlflow", ["/bin/sh", "-c", "echo x"]).watcher(home, "/")
    subprocess.run([unnamed["cmd"], *unnamed["args"]], check=True)
    assert (home.logs / "mlflow.log").read_text() == "x\n"


def test_a_supervisor_that_is_busy_is_asked_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = {"status": "error", "reason": "arbiter is already running arbiter_rm_watcher command"}
    answers = iter([busy, busy, {"status": "ok", "watchers": ["gateway"]}])
    monkeypatch.setattr(Supervisor, "_ask", lambda *arguments: next(answers))
    assert Supervisor(home).names() == ["gateway"]
