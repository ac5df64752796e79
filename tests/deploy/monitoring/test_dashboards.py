"""Grafana shows metrics that exist, by queries that Prometheus understands."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bentos.feature_transformer import metrics as features
from bentos.model_server import metrics as server
from deploy.findings import write_finding
from deploy.home import Home
from deploy.monitoring.dashboards import DASHBOARDS, SOURCE, dashboard
from deploy.monitoring.files import FOLDER
from deploy.monitoring.finding_metrics import FindingMetrics
from serving_config.load import load
from tests.deploy.found import finding
from tests.deploy.monitoring.promtool import promtool

# Prometheus' own.
OWN = {"up", "ALERTS"}


def queries() -> Iterator[tuple[str, str]]:
    """Panel and PromQL."""
    for name in DASHBOARDS:
        for panel in dashboard(name)["panels"]:
            for target in panel["targets"]:
                yield f"{name}: {panel['title']}", target["expr"]


def exposed(module: Any) -> set[str]:
    """The series of a server, as Prometheus names them."""
    parts = ("_bucket", "_sum", "_count")
    histograms = {f"{name}{part}" for name in module.HISTOGRAMS for part in parts}
    return {f"{name}_total" for name in module.COUNTERS} | set(module.GAUGES) | histograms


def found(home: Home) -> set[str]:
    """The series about what the checks found."""
    write_finding(home, finding("failed", values={"share": 0.5, "column.width": 0.1, "rows": 3.0}))
    write_finding(home, finding("passed", kind="quality", values={"accuracy": 0.9}))
    return {family.name for family in FindingMetrics(home, load(variables={})).collect()}


def test_every_metric_that_is_shown_exists(home: Home) -> None:
    known = exposed(server) | exposed(features) | found(home) | OWN | {"slipway_model_info"}
    for panel, query in queries():
        named = set(re.findall(r"\b(?:slipway_\w+|up|ALERTS)(?=\{)", query))
        assert named, f"{panel} shows no metric"
        assert named <= known, panel


def test_prometheus_understands_every_query(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "1m")}
        for number, (_, query) in enumerate(queries())
    ]
    group = {"name": "dashboards", "rules": rules}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [group]}))
    done = promtool("check", "rules", tmp_path / "rules.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_panels_ask_the_source_that_is_provisioned() -> None:
    provisioned = FOLDER / "grafana" / "provisioning" / "datasources" / "prometheus.yaml"
    (source,) = yaml.safe_load(provisioned.read_text())["datasources"]
    assert {"type": source["type"], "uid": source["uid"]} == SOURCE


@pytest.mark.parametrize("name", DASHBOARDS)
def test_no_panel_lies_over_another(name: str) -> None:
    seen: set[tuple[int, int]] = set()
    for panel in dashboard(name)["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & seen
        seen |= cells
