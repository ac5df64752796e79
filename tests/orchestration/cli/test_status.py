import io
from pathlib import Path

import pytest
from rich.console import Console

from deploy.control.alert import Alert, AlertsError, write_alerts
from deploy.home import Home
from deploy.monitoring.catalog import annotations
from deploy.platform import LocalPlatform
from orchestration.cli.status import alert_table, firing_alerts
from serving_config.load import FOLDER, load

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


def test_no_file_is_no_alert_but_a_damaged_one_is_an_error(platform: LocalPlatform) -> None:
    assert firing_alerts(platform) == []
    (platform.home.run / "alerts.json").write_text("[{}]")
    with pytest.raises(AlertsError, match=r"alerts\.json cannot be read"):
        firing_alerts(platform)
