"""The command as a user calls it: a process of its own, with a home and ports of its own."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.events import State
from deploy.ledger import Ledger
from deploy.processes import free_port
from orchestration.cli import main
from tests.deploy.releases import change, live

CHECKOUT = Path(__file__).parents[3]
SLIPWAY = Path(sys.executable).parent / "slipway"
Called = subprocess.CompletedProcess[str]
Call = Callable[..., Called]


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="slipway-") as folder:
        yield Path(folder)


@pytest.fixture
def call(home: Path) -> Call:
    """Runs `slipway` in a folder, with further variables."""
    clean = {name: v for name, v in os.environ.items() if not name.startswith("SLIPWAY_")}
    ports = {f"SLIPWAY_{part}_PORT": str(free_port()) for part in ("GATEWAY", "DAGSTER", "MLFLOW")}

    def run(*arguments: str, folder: Path = CHECKOUT, **variables: str) -> Called:
        return subprocess.run(
            [SLIPWAY, *arguments],
            cwd=folder,
            env=clean | {"SLIPWAY_HOME": str(home)} | ports | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def one_line(called: Called, *words: str) -> None:
    """It failed, with one line for people on stderr that has the words, and said nothing else."""
    assert called.returncode not in (0, 3)
    (line,) = called.stderr.splitlines()
    assert line.startswith("slipway: ")
    for word in words:
        assert word in line
    assert called.stdout == ""


@pytest.mark.parametrize("command", ["train", "release"])
def test_an_unknown_model_is_one_line_with_those_there_are(command: str, call: Call) -> None:
    one_line(
        call(command, "rose"), "no model 'rose'", "models: customer-churn, iris, spam-detector"
    )


def test_an_unknown_training_is_one_line_with_those_there_are(call: Call) -> None:
    one_line(call("train", "customer-churn", "--with", "rose"), "no 'rose'", "names: pytorch")


@pytest.mark.parametrize("command", [("status",), ("up",)])
def test_outside_of_a_checkout_is_one_line_that_says_what_helps(
    command: tuple[str, ...], call: Call, tmp_path: Path
) -> None:
    called = call(*command, folder=tmp_path)
    one_line(called, f"{tmp_path} is not in a Slipway checkout", "set SLIPWAY_CONFIG")


def test_any_folder_of_the_checkout_will_do(call: Call) -> None:
    assert call("status", folder=CHECKOUT / "deploy" / "gateway").returncode == 3


@pytest.mark.parametrize("command", ["verify", "promote"])
def test_with_the_platform_down_it_is_one_line_that_says_how_to_start_it(
    command: str, call: Call, home: Path
) -> None:
    one_line(call(command, "iris"), f"the platform is down ({home})", "`slipway up --detach`")


def test_a_platform_on_a_cluster_is_asked_and_not_looked_for_here(call: Call) -> None:
    said = call("promote", "iris", SLIPWAY_TARGET="kubernetes")
    one_line(said, "staging serves no version of iris")


def test_the_status_of_a_platform_that_is_down_says_so_and_exits_3(call: Call, home: Path) -> None:
    called = call("status")
    assert (called.returncode, called.stderr) == (3, "")
    assert "the platform is down" in called.stdout
    assert not list(home.iterdir())


def test_the_status_is_json_for_scripts(call: Call, home: Path) -> None:
    ledger = Ledger(f"sqlite:///{home}/ledger.db")
    ledger.record(change(State("production", "iris"), live(7)))
    ledger.close()
    called = call("status", "--json", SLIPWAY_GATEWAY_PORT="1234")
    assert (called.returncode, called.stderr) == (3, "")
    found = json.loads(called.stdout)
    assert (found["home"], found["running"], found["processes"]) == (str(home), False, [])
    assert found["addresses"]["gateway"] == "http://127.0.0.1:1234"
    (entry,) = found["live"]
    assert (entry["environment"], entry["model"], entry["version"]) == ("production", "iris", "7")
    assert (entry["weight"], entry["by"]) == (100, "ann")


def test_down_where_nothing_runs_is_no_failure(call: Call) -> None:
    called = call("down")
    assert (called.returncode, called.stderr) == (0, "")


def test_a_busy_port_is_one_line_with_the_setting_and_starts_nothing(
    call: Call, home: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        called = call("up", "--detach", SLIPWAY_DAGSTER_PORT=port)
    one_line(called, f"port {port} is in use", "SLIPWAY_DAGSTER_PORT", "dagster.port")
    assert not (home / "logs" / "supervisor.log").exists()


def test_a_wrong_setting_is_one_line_that_names_it(call: Call) -> None:
    one_line(call("status", SLIPWAY_GATEWAY_PORT="http"), "SLIPWAY_GATEWAY_PORT", "'http'")


def test_settings_that_are_not_there_are_one_line(call: Call, tmp_path: Path) -> None:
    called = call("status", SLIPWAY_CONFIG=str(tmp_path / "nowhere"))
    one_line(called, f"{tmp_path}/nowhere/platform.yaml: no such file")


def test_a_home_that_cannot_be_written_is_one_line(call: Call, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    called = call("up", "--detach", SLIPWAY_HOME=str(tmp_path / "file"))
    one_line(called, f"SLIPWAY_HOME {tmp_path / 'file'} cannot be written")


def test_a_ledger_that_cannot_be_read_is_one_line_and_not_an_empty_list(
    call: Call, home: Path
) -> None:
    (home / "ledger.db").write_text("not a database at all" * 100)
    one_line(call("status", "--json"), "the ledger", "not a database")


def here(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> object:
    """The exit code of the command in this process; a child takes most of a second."""
    monkeypatch.setattr(sys, "argv", ["slipway", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["relaese"], "relaese"),
        (["release"], "MODEL"),
        (["release", "iris", "--version", "0"], "--version"),
        (["status", "--jsno"], "--jsno"),
    ],
)
def test_a_wrong_call_is_one_line_and_exits_2(
    arguments: list[str],
    word: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert here(arguments, monkeypatch) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("slipway: ")
    assert word in said.err


@pytest.mark.parametrize("argument", ["--help", "-h"])
def test_help_lists_the_commands(
    argument: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert here([argument], monkeypatch) in (0, None)
    shown = capsys.readouterr().out
    commands = ("up", "down", "status", "train", "verify", "release", "promote", "demo")
    for command in (*commands, "keys", "load-test"):
        assert f"  {command} " in shown


def test_an_error_of_somebody_else_s_says_what_it_is_and_a_bug_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise KeyError("port\nof what")

    monkeypatch.setattr("orchestration.cli.status.local_platform", fail)
    monkeypatch.delenv("SLIPWAY_DEBUG", raising=False)
    assert here(["status"], monkeypatch) == 1
    assert capsys.readouterr().err == "slipway: KeyError: 'port\\nof what'\n"


def test_ctrl_c_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("orchestration.cli.status.local_platform", interrupt)
    assert here(["status"], monkeypatch) == 130
    assert capsys.readouterr().err.strip() == "slipway: interrupted"


def test_the_version_is_the_installed_one(call: Call) -> None:
    called = call("--version")
    assert called.returncode == 0
    assert "0.1.0" in called.stdout


def test_a_traceback_is_there_for_who_asks_for_it(call: Call, tmp_path: Path) -> None:
    called = call("status", folder=tmp_path, SLIPWAY_DEBUG="1")
    assert "Traceback" in called.stderr
    assert called.returncode == 1
