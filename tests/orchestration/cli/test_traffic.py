"""The commands that change traffic by hand, as far as they go without a platform."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.ledger import Ledger
from orchestration.cli.roles import role
from orchestration.cli.traffic import WeightsError, parse_weights
from tests.deploy.releases import live
from tests.orchestration.lifecycle.ledgers import canary

CHECKOUT = Path(__file__).parents[3]
Call = Callable[..., subprocess.CompletedProcess[str]]
LABELS = st.from_regex(r"[1-9][0-9]{0,3}(-int8)?", fullmatch=True)


@given(weights=st.dictionaries(LABELS, st.integers(0, 100), min_size=1))
def test_weights_are_read_as_they_were_written_with_and_without_a_v(
    weights: dict[str, int],
) -> None:
    assert parse_weights(tuple(f"{label}={weight}" for label, weight in weights.items())) == weights
    assert parse_weights(tuple(f"v{label}={weight}" for label, weight in weights.items())) == (
        weights
    )


@pytest.mark.parametrize(
    "text", ["1=abc", "1", "=5", "1=", "1=-5", "1=5.5", "1=NaN", "1=²", "1=5%"]
)
def test_what_is_no_weight_is_named(text: str) -> None:
    with pytest.raises(WeightsError, match="is no weight: write VERSION=PERCENT") as caught:
        parse_weights(("2=95", text))
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["1-fp32=5", "1-int4=5", "x=5", "01=5"])
def test_a_weight_of_what_is_no_version_is_named(text: str) -> None:
    with pytest.raises(WeightsError, match="is none: write 3, or 3-int8"):
        parse_weights(("2=95", text))


@pytest.mark.parametrize("texts", [("1=90", "1=10"), ("1=90", "v1=10")])
def test_a_version_that_is_named_twice_is_no_split(texts: tuple[str, str]) -> None:
    with pytest.raises(WeightsError, match="version 1 is named twice"):
        parse_weights(texts)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    canary(made)
    return made


def test_everybody_can_see_what_a_live_version_is_there_for(ledger: Ledger) -> None:
    event = ledger.last_event("production", "iris")
    assert [role(item, event) for item in event.live] == ["canary, step 2 of 2", "serves"]
    assert role(live(3, 0), event) == "resident: loaded, without traffic"


@pytest.fixture
def call(tmp_path: Path) -> Call:
    clean = {name: v for name, v in os.environ.items() if not name.startswith("SLIPWAY_")}
    command = [sys.executable, "-c", "from orchestration.cli import main; main()"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments],
            cwd=CHECKOUT,
            env=clean | {"SLIPWAY_HOME": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def test_without_weights_the_split_is_shown_for_people_and_for_scripts(
    ledger: Ledger, call: Call
) -> None:
    shown = call("split", "iris")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "canary, step 2 of 2" in shown.stdout
    found = json.loads(call("split", "iris", "--json").stdout)
    assert [(item["version"], item["weight"]) for item in found["live"]] == [("2", 50), ("1", 50)]
    assert (found["generation"], found["event"]["actor"]) == (4, "controller")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("split", "rose"), "no model 'rose'"),
        (("split", "iris", "--environment", "moon"), "environments: production, staging"),
        (("split", "iris", "1=x"), "'1=x' is no weight"),
        (("split", "iris", "1=100"), "the platform is down"),
        (("rollback", "iris"), "the platform is down"),
        (("load", "iris", "--version", "1"), "the platform is down"),
        (("retire", "iris", "1"), "the platform is down"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments: tuple[str, ...], word: str, call: Call) -> None:
    called = call(*arguments)
    assert called.returncode == 1
    (line,) = called.stderr.splitlines()
    assert line.startswith("slipway: ")
    assert word in line
    assert called.stdout == ""


@pytest.mark.parametrize("command", ["release", "promote", "verify", "load", "load-test"])
def test_what_is_no_version_is_one_line(command: str, call: Call) -> None:
    called = call(command, "iris", "--version", "3-int4")
    assert called.returncode == 2
    (line,) = called.stderr.splitlines()
    assert "version '3-int4' is none: write 3, or 3-int8" in line


def test_the_commands_that_must_be_quick_import_neither_dagster_nor_mlflow() -> None:
    code = (
        "import sys, orchestration.cli\n"
        "print([name for name in ('dagster', 'mlflow', 'sklearn', 'onnx') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
