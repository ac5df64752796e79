"""`slipway keys` as a user calls it, with the platform down."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bentos.model_server.keys import Keys
from deploy.home import Home
from orchestration.cli import main

SLIPWAY = Path(sys.executable).parent / "slipway"
CHECKOUT = Path(__file__).parents[3]
Said = tuple[object, str, str]
Call = Callable[..., Said]


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    """Runs `slipway keys` in this process: exit code, stdout and stderr."""
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path))
    monkeypatch.delenv("SLIPWAY_CONFIG", raising=False)
    monkeypatch.chdir(CHECKOUT)

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["slipway", "keys", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        return caught.value.code or 0, *capsys.readouterr()

    return run


def caller(home: Path, key: str, scope: str = "predict") -> str:
    return Keys(Home(home).keys).require({b"x-api-key": key.encode()}, None, scope)


def test_a_script_gets_the_key_alone_on_stdout(tmp_path: Path) -> None:
    called = subprocess.run(
        [SLIPWAY, "keys", "add", "ann"],
        cwd=CHECKOUT,
        env=os.environ | {"SLIPWAY_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    (key,) = called.stdout.splitlines()
    assert caller(tmp_path, key) == "ann"
    assert "save it now" in called.stderr
    assert key not in called.stderr


def test_scopes_are_as_given_and_predict_without(call: Call, tmp_path: Path) -> None:
    _, key, _ = call("add", "root", "--scope", "admin")
    assert caller(tmp_path, key.strip(), "admin") == "root"
    _, key, _ = call("add", "both", "--scope", "admin", "--scope", "predict")
    assert {caller(tmp_path, key.strip(), scope) for scope in ("admin", "predict")} == {"both"}
    code, out, err = call("add", "odd", "--scope", "write")
    assert (code, out) == (2, "")
    assert "'write' is not one of 'predict', 'admin'" in err


def test_the_list_has_the_revoked_ones_and_neither_keys_nor_the_platform_s_own(call: Call) -> None:
    _, ann, _ = call("add", "ann")
    _, bob, _ = call("add", "bob", "--scope", "admin")
    assert call("revoke", "ann") == (
        0,
        "ann is revoked; model servers refuse it within seconds\n",
        "",
    )
    _, table, _ = call("list")
    _, text, _ = call("list", "--json")
    assert [line.split()[0] for line in table.splitlines()] == ["key", "ann", "bob"]
    first, second = json.loads(text)
    assert (first["name"], first["scopes"], first["revoked"] is None) == ("ann", ["predict"], False)
    assert (second["name"], second["scopes"], second["revoked"]) == ("bob", ["admin"], None)
    for key in (ann, bob):
        secret = key.strip().rpartition("_")[2]
        assert secret not in table + text


def test_an_empty_list_says_what_that_means_and_makes_nothing(call: Call, tmp_path: Path) -> None:
    assert "anybody on this machine may predict" in call("list")[1]
    assert call("list", "--json") == (0, "[]\n", "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["add", "a b"], "'a b' cannot be a key's name"),
        (["add", "slipway-platform"], "choose another name"),
        (["revoke", "slipway-platform"], "cannot be revoked"),
        (["revoke", "ann"], "no key 'ann' to revoke; keys: none"),
    ],
)
def test_a_refusal_is_one_line(arguments: list[str], words: str, call: Call) -> None:
    code, out, err = call(*arguments)
    assert (code, out) == (1, "")
    (line,) = err.splitlines()
    assert line.startswith("slipway: ")
    assert words in line
