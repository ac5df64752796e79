"""Alerts about findings: the control process's own evaluation, with findings in files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.control.alert import Alert
from deploy.control.alerts import Alerting
from deploy.findings import KIND, key_of, write_finding
from deploy.home import Home
from deploy.ledger import Ledger
from deploy.shared_state import shared_state
from serving_config.load import load
from tests.deploy.found import finding

SHIPPED = load(variables={})


class World:
    def __init__(self, home: Home) -> None:
        self.home, self.ledger = home, Ledger(home.ledger_url)
        self.now, self.sent = 1000.0, list[Alert]()
        self.alerting = Alerting(
            SHIPPED, dict, self.ledger, home, self.sent.append, lambda: self.now
        )

    def tick(self, hours: float = 0.0) -> list[tuple[str, str]]:
        """After so many hours of running: what is sent."""
        begun = len(self.sent)
        self.now += hours * 3600
        self.alerting.tick()
        return [(alert.labels["alertname"], alert.state) for alert in self.sent[begun:]]

    def found(self, *arguments: Any, **fields: Any) -> list[tuple[str, str]]:
        write_finding(self.home, finding(*arguments, **fields))
        return self.tick()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(Home(tmp_path / "h").create())
    yield made
    made.ledger.close()


def test_drift_alerts_at_once_and_resolves_when_it_is_gone(world: World) -> None:
    assert world.found("failed") == [("DataDrift", "firing")]
    (alert,) = world.sent
    assert alert.labels == {
        "alertname": "DataDrift",
        "severity": "warning",
        "environment": "production",
        "model": "iris",
        "version": "3",
    }
    assert "3 of 4 columns have drifted" in alert.annotations["description"]
    assert world.found("failed") == []
    assert world.found("not_enough_data") == []
    assert world.found("passed") == [("DataDrift", "resolved")]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"kind": "quality"}, "PredictionQuality"),
        ({"kind": "schedule", "subject": "iris_drift"}, "ScheduleFailed"),
    ],
)
def test_each_kind_has_its_alert(fields: dict[str, Any], name: str, world: World) -> None:
    assert world.found("failed", **fields) == [(name, "firing")]
    assert world.found("passed", **fields) == [(name, "resolved")]


@pytest.mark.parametrize("status", ["passed", "not_enough_data"])
def test_what_is_no_failure_alerts_nobody(status: str, world: World) -> None:
    assert world.found(status) == []


def test_a_finding_that_is_not_renewed_is_overdue_and_says_nothing_else(world: World) -> None:
    assert world.found("failed", age_hours=30) == [("DataDrift", "firing")]
    assert world.tick(hours=1.9) == []
    assert world.tick(hours=0.2) == [("ScheduleOverdue", "firing")]
    states = {a.labels["alertname"]: a.state for a in world.alerting.current()}
    assert states == {"DataDrift": "firing", "ScheduleOverdue": "firing"}  # not known to be gone
    assert world.sent[-1].labels["subject"] == "iris"
    assert sorted(world.found("passed")) == [
        ("DataDrift", "resolved"),
        ("ScheduleOverdue", "resolved"),
    ]


def test_time_in_which_the_platform_was_down_is_not_overdue(world: World) -> None:
    assert world.found("passed", age_hours=100) == []
    assert world.tick(hours=1) == []


def test_time_in_which_the_machine_slept_is_not_overdue(world: World) -> None:
    assert world.found("passed") == []
    assert world.tick(hours=1) == []
    for _ in range(5):
        assert world.found("passed") == []
        assert world.tick(hours=1) == []
    # The wall clock went on by ten hours, the process by none of them.
    assert world.found("passed", age_hours=10) == []
    assert world.tick(hours=0.1) == []


def test_jobs_of_a_model_that_is_gone_or_not_looked_at_alert_nobody(world: World) -> None:
    assert world.found("failed", kind="schedule", subject="gone_drift") == []
    assert world.tick(hours=3) == []


def test_what_the_settings_no_longer_know_alerts_nobody(world: World) -> None:
    assert world.found("failed", subject="gone") == []
    assert world.found("failed", environment="gone") == []
    assert world.found("failed", kind="features", subject="gone") == []


def test_a_damaged_finding_hides_no_other(world: World, caplog: pytest.LogCaptureFixture) -> None:
    key = key_of("drift", "staging", "iris")
    shared_state(world.home).write(KIND, key, b"{")
    assert world.found("failed") == [("DataDrift", "firing")]
    world.tick()
    said = [text for text in caplog.messages if key in text]
    assert len(said) == 1
