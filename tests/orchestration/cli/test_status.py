import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from rich.console import Console

from deploy.control.alert import Alert, AlertsError, write_alerts
from deploy.events import State
from deploy.home import Home
from deploy.ledger import Ledger
from deploy.monitoring.catalog import annotations
from deploy.platform import LocalPlatform
from deploy.shared_state import shared_state
from orchestration.cli import status
from orchestration.cli.status import alert_table, firing_alerts, live_versions
from serving_config.load import FOLDER, load
from tests.deploy.releases import change, live

ABOUT = {"environment": "production", "model": "iris", "version": "3", "variant": "fp32"}
FIRING = Alert(
    state="firing",
    labels={"alertname": "HighErrorRate", "severity": "critical"} | ABOUT,
    annotations=annotations("HighErrorRate", ABOUT, "5 [bold]%", "1%"),
    since="2026-01-01T00:00:00.000+00:00",
    starts_at="2026-01-01T00:00:15.000+00:00",
)


@pytest.fixture
def platform(tmp_path: Path) -> LocalPlatform:
    return LocalPlatform(Home(tmp_path / "h").create(), load(variables={}), FOLDER)


def test_what_fires_is_shown_with_its_numbers(platform: LocalPlatform) -> None:
    pending = Alert(state="pending", labels=FIRING.labels, annotations={}, since=FIRING.since)
    write_alerts(platform.home, [pending, FIRING])
    (found,) = firing_alerts(platform)
    assert (found["alert"], found["severity"]) == ("HighErrorRate", "critical")
    assert (found["model"], found["version"], found["since"]) == ("iris", "3", FIRING.starts_at)
    text = io.StringIO()
    Console(file=text, width=150).print(alert_table([found]))
    for word in ("HighErrorRate", "iris", "production", "5 [bold]% of its requests fail"):
        assert word in text.getvalue()


def test_what_the_settings_do_not_have_any_more_is_said_in_a_line(
    platform: LocalPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger(platform.home.ledger_url) as ledger:
        ledger.record(change(State("production", "iris"), live(1)))
        ledger.record(change(State("moon", "iris"), live(2)))
        ledger.record(change(State("production", "rose"), live(3, model="rose")))
    text = io.StringIO()
    monkeypatch.setattr(status, "console", Console(file=text, width=150))
    status.show(platform)
    lines = text.getvalue().splitlines()
    assert "iris 2 in moon: not configured any more" in lines
    assert "rose 3 in production: not configured any more" in lines
    (served,) = (line for line in lines if "no server" in line)
    assert served.split()[:3] == ["iris", "production", "1"]


def test_a_first_release_while_the_status_is_read_does_not_disturb_it(
    platform: LocalPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger(platform.home.ledger_url) as ledger:
        ledger.record(change(State("production", "iris"), live(1)))

    def released_after(read: Callable[[Ledger], Any]) -> Callable[[Ledger], Any]:
        def reading(ledger: Ledger) -> Any:
            found = read(ledger)
            base = State("staging", f"rose-{read.__name__}")
            ledger.record(change(base, live(1, model=base.model)))
            return found

        return reading

    for name in ("events", "states"):
        monkeypatch.setattr(Ledger, name, released_after(getattr(Ledger, name)))
    assert [item["model"] for item in live_versions(platform, set())] == ["iris"]


def test_an_alert_about_a_schedule_or_a_model_as_a_whole_is_shown_as_well(
    platform: LocalPlatform,
) -> None:
    about = {"kind": "schedule", "environment": "", "subject": "iris_drift"}
    schedule = replace(
        FIRING, labels={"alertname": "ScheduleFailed", "severity": "warning"} | about
    )
    model = {"alertname": "DataDrift", "severity": "warning", "environment": "production"}
    drift = replace(FIRING, labels=model | {"model": "iris", "version": "3"})
    write_alerts(platform.home, [schedule, drift])
    found = firing_alerts(platform)
    text = io.StringIO()
    Console(file=text, width=150).print(alert_table(found))
    assert "ScheduleFailed" in text.getvalue()
    assert "iris_drift" in text.getvalue()
    assert "DataDrift" in text.getvalue()
    assert (found[1]["model"], found[1]["version"], found[1]["variant"]) == ("iris", "3", None)


def test_nothing_is_no_alert_but_what_is_damaged_is_an_error(
    platform: LocalPlatform,
) -> None:
    assert firing_alerts(platform) == []
    shared_state(platform.home).write("alerts", "current", b"[{}]")
    with pytest.raises(AlertsError, match="alerts cannot be read"):
        firing_alerts(platform)
