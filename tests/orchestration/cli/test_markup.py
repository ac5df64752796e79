"""What people, the controller and servers wrote is text: brackets in it are no markup."""

import io
from datetime import datetime

import msgspec
import pytest
from click.testing import CliRunner
from rich.console import Console
from rich.table import Table

from deploy.home import Home
from deploy.ledger import Ledger
from orchestration.cli.follow import with_progress
from orchestration.cli.main import cli
from tests.deploy.releases import live
from tests.deploy.test_receipts import gateway_line, server_of
from tests.orchestration.lifecycle.ledgers import append
from tests.orchestration.test_release_progress import progress

REASON, ACTOR = "wrong [/] answers [bold]", "ann [/red] (slipway)"


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("h")).create()
    monkeypatch.setenv("SLIPWAY_HOME", str(home.root))
    monkeypatch.setenv("COLUMNS", "240")
    with Ledger(home.ledger_url) as ledger:
        append(ledger, "promote", live(1), actor=ACTOR)
        append(ledger, "promote", live(2), live(1, 0), actor=ACTOR)
        event = append(ledger, "rollback", live(1), actor=ACTOR, reason=REASON)
    line = gateway_line("r-1", datetime.fromisoformat(event.at), server_of(1))
    (home.logs / "gateway-access.log").write_text(line)
    return home


@pytest.mark.parametrize(
    "command", ["split iris", "ledger iris", "ledger iris --at 2100-01-01", "explain-request r-1"]
)
def test_each_command_shows_it_as_it_was_written(command: str, home: Home) -> None:
    shown = CliRunner().invoke(cli, command.split())
    assert shown.exit_code == 0, shown.exception
    assert ACTOR in shown.output
    assert REASON in shown.output


def test_the_status_shows_it_as_it_was_written(home: Home) -> None:
    shown = CliRunner().invoke(cli, ["status"])
    assert shown.exit_code == 3, shown.exception  # the platform is down
    assert ACTOR in shown.output


def test_a_release_in_progress_shows_the_verdicts_reason_as_it_was_written() -> None:
    seen = progress(failed=20)
    seen = msgspec.structs.replace(
        seen, analysis=msgspec.structs.replace(seen.analysis, reason=REASON)
    )
    text = io.StringIO()
    Console(file=text, width=200).print(with_progress(Table(), seen))
    assert REASON in text.getvalue()
