"""Prometheus' rules, run by Prometheus' own tool; one value of a series is one second."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bentos.model_server.metrics import SECONDS
from deploy.home import Home
from deploy.monitoring.catalog import KINDS
from deploy.monitoring.files import FOLDER, monitoring_files
from deploy.monitoring.rules import alerting_rules, duration, interval
from serving_config.load import load
from serving_config.schema import Configuration
from tests.deploy.monitoring.promtool import firing, promtool, series

CHECKOUT = FOLDER.parent.parent
REQUESTS = "slipway_requests_total"
GOOD = series(REQUESTS, "0+10x300", route="/predict", status="200")


def configuration(**production: Any) -> Configuration:
    shipped = load(variables={})
    release = shipped.environments["production"].release
    health = release.health.model_copy(update=production)
    environment = shipped.environments["production"].model_copy(
        update={"release": release.model_copy(update={"health": health})}
    )
    environments = shipped.environments | {"production": environment}
    return shipped.model_copy(update={"environments": environments})


RULES = alerting_rules(configuration())


def test_the_files_in_the_checkout_are_those_of_the_shipped_settings() -> None:
    files = monitoring_files(load(variables={}), Home(CHECKOUT / ".slipway"), FOLDER)
    for name, text in files.items():
        assert (FOLDER / name).read_text() == text, "run: python -m deploy.monitoring"


def test_promtool_finds_no_fault_in_them() -> None:
    for kind, name in (("rules", "rules.yml"), ("config", "prometheus.yml")):
        done = promtool("check", kind, FOLDER / name)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_model_has_the_limits_of_its_environment() -> None:
    groups = {
        g["name"]: yaml.safe_dump(g) for g in alerting_rules(configuration(p99_ms=123))["groups"]
    }
    assert "> 123" in groups["iris/production"]
    assert "> 123" not in groups["iris/staging"]


def test_every_alert_names_its_commands_and_its_runbook() -> None:
    runbook = (CHECKOUT / "docs" / "alerts.md").read_text()
    for alert in KINDS:
        assert f"\n### {alert}\n" in runbook
    for group in RULES["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["runbook_url"] == f"docs/alerts.md#{rule['alert'].lower()}"
            assert "`slipway " in rule["annotations"]["description"]


def test_an_error_rate_fires_after_for_seconds_and_resolves(tmp_path: Path) -> None:
    # 5 % fail from second 60 to 120: past 1 % of the window's 600 requests after about 12 s.
    errors = series(REQUESTS, "0x60 0.5+0.5x60 30x180", route="/predict", status="500")
    at = {"59s": False, "72s": False, "100s": True, "130s": True, "200s": False}
    firing(tmp_path, RULES, [GOOD, errors], at, "HighErrorRate")


def test_a_limit_that_is_passed_for_a_moment_only_fires_nothing(tmp_path: Path) -> None:
    errors = series(REQUESTS, "0x100 7x300", route="/predict", status="500")
    good = series(REQUESTS, "0+10x100 1000+100x200", route="/predict", status="200")
    at = {f"{second}s": False for second in range(95, 180, 3)}
    firing(tmp_path, RULES, [good, errors], at, "HighErrorRate")


@pytest.mark.parametrize("requests", [1, 2])
def test_below_the_wanted_requests_nothing_is_judged(requests: int, tmp_path: Path) -> None:
    # Every second one fails; 0.15 a second are 18 in the window with the failed ones, 0.3 are 36.
    rate = 0.15 * requests
    inputs = [
        series(REQUESTS, f"0+{rate}x300", route="/predict", status=status)
        for status in ("200", "503")
    ]
    firing(tmp_path, RULES, inputs, {"200s": requests == 2}, "HighErrorRate")


@pytest.mark.parametrize(("route", "status"), [("/predict", "422"), ("/health", "500")])
def test_refusals_and_other_routes_are_no_errors(route: str, status: str, tmp_path: Path) -> None:
    inputs = [GOOD, series(REQUESTS, "0+5x300", route=route, status=status)]
    firing(tmp_path, RULES, inputs, {"200s": False}, "HighErrorRate")


@pytest.mark.parametrize(
    "route", ["/predict", "/predict/batch", "/v2/models/{model}/versions/{version}/infer"]
)
def test_every_route_that_predicts_counts(route: str, tmp_path: Path) -> None:
    inputs = [
        series(REQUESTS, "0+10x300", route=route, status="200"),
        series(REQUESTS, "0+1x300", route=route, status="504"),
    ]
    firing(tmp_path, RULES, inputs, {"200s": True}, "HighErrorRate")


def test_a_bad_version_is_not_hidden_by_a_good_one(tmp_path: Path) -> None:
    inputs = [
        series(REQUESTS, "0+1000x300", route="/predict", status="200", version="2"),
        series(REQUESTS, "0+1x300", route="/predict", status="200"),
        series(REQUESTS, "0+1x300", route="/predict", status="500"),
    ]
    firing(tmp_path, RULES, inputs, {"200s": True}, "HighErrorRate")


def buckets(slow: float) -> list[dict[str, str]]:
    """Ten requests a second, of which that share takes 0.5 to 1 s, the others 1 to 2.5 ms."""
    name, fast = "slipway_request_duration_seconds_bucket", 10 * (1 - slow)
    rates = {bound: 0 if bound < 0.0025 else fast if bound < 1 else 10 for bound in SECONDS}
    assert all(one <= two for one, two in pairwise(rates.values()))
    found = [
        series(name, f"0+{rate}x300", route="/predict", le=str(bound))
        for bound, rate in rates.items()
    ]
    return [*found, series(name, "0+10x300", route="/predict", le="+Inf"), GOOD]


@pytest.mark.parametrize(("slow", "fires"), [(0.005, False), (0.02, True)])
def test_a_p99_beyond_the_limit_fires(slow: float, fires: bool, tmp_path: Path) -> None:
    firing(tmp_path, RULES, buckets(slow), {"10s": False, "200s": fires}, "HighLatency")


def test_a_server_that_is_down_fires_after_for_seconds(tmp_path: Path) -> None:
    up = series("up", "1x60 0x60 1x60")
    at = {"65s": False, "80s": True, "125s": False}
    firing(tmp_path, RULES, [up], at, "ModelServerDown")


def test_a_server_without_a_model_fires_and_one_with_its_model_does_not(tmp_path: Path) -> None:
    up, info = series("up", "1x200"), series("slipway_model_info", "_x100 1x100", bento="iris:3")
    firing(tmp_path, RULES, [up, info], {"10s": False, "60s": True, "130s": False}, "ModelNotReady")


def test_requests_that_a_full_server_refuses_fire(tmp_path: Path) -> None:
    shed = series("slipway_shed_total", "0x60 0+1x60 60x180", limit="queue")
    at = {"60s": False, "110s": True, "250s": False}
    firing(tmp_path, RULES, [GOOD, shed], at, "RequestsShed")


def test_lost_lines_of_the_access_log_fire(tmp_path: Path) -> None:
    lost = series("slipway_access_log_dropped_total", "0x60 0+1x60 60x180")
    firing(
        tmp_path, RULES, [lost], {"60s": False, "100s": True, "250s": False}, "AccessLogDropping"
    )


@given(st.floats(0.001, 3600))
def test_durations_are_written_as_prometheus_reads_them(seconds: float) -> None:
    text = duration(seconds)
    read = float(text[:-2]) / 1000 if text.endswith("ms") else float(text[:-1])
    assert "e" not in text
    assert read == pytest.approx(seconds, abs=0.0006)


@given(st.floats(6, 3600), st.floats(1, 3600))
def test_the_window_holds_several_scrapes(window: float, held: float) -> None:
    shipped = load(variables={})
    alerts = shipped.platform.alerts.model_copy(
        update={"window_seconds": window, "for_seconds": held}
    )
    platform = shipped.platform.model_copy(update={"alerts": alerts})
    seconds = interval(shipped.model_copy(update={"platform": platform}))
    assert 1 <= seconds <= 5
    assert seconds <= window / 6 + 1e-9
