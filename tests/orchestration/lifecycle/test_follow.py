"""Following a release whose ledger cannot be read for a while."""

from pathlib import Path
from typing import Any

import pytest

from deploy.events import Event, LedgerError
from deploy.ledger import Ledger
from orchestration.defs.lifecycle import follow
from orchestration.resources.serving import Serving
from serving_config.load import FOLDER
from tests.deploy.releases import live
from tests.orchestration.lifecycle.ledgers import append, canary


class AwayFor(Ledger):
    """Its database does not answer the first questions."""

    looks = 3

    def events(self, *arguments: Any, **named: Any) -> list[Event]:
        self.looks -= 1
        if self.looks > 0:
            raise LedgerError("the database does not answer")
        return super().events(*arguments, **named)


class Interrupted(Serving):
    def open_ledger(self) -> Ledger:
        return AwayFor(f"sqlite:///{self.home}/ledger.db")


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    return Interrupted(home=str(tmp_path), config_folder=str(FOLDER))


@pytest.fixture
def started(tmp_path: Path) -> Event:
    """A canary that is over."""
    with Ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        canary(ledger)
        append(ledger, "promote", live(2), live(1, 0))
        return ledger.events()[2]


def test_a_ledger_that_is_away_for_a_moment_ends_no_run(
    serving: Serving, started: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "_POLL_SECONDS", 0.01)
    result, event = follow.follow_release(serving, started, lambda text: None)
    assert (result, event.action) == ("released", "promote")


def test_a_ledger_that_stays_away_ends_the_run(
    serving: Serving, started: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "_PATIENCE_SECONDS", 0)
    with pytest.raises(LedgerError, match="does not answer"):
        follow.follow_release(serving, started, lambda text: None)
