"""rules.yml, prometheus.yml and Grafana's dashboards: the shipped settings' are committed here; a
test holds them."""

import json
import os
from pathlib import Path
from typing import Any

import yaml

from deploy.home import Home
from deploy.monitoring.dashboards import DASHBOARDS, dashboard
from deploy.monitoring.rules import alerting_rules, prometheus_config
from deploy.monitoring.targets import targets_file
from serving_config.schema import Configuration

FOLDER = Path(__file__).parent
_HEADER = "# Written by `python -m deploy.monitoring` from the settings. See docs/alerts.md.\n"


def monitoring_files(configuration: Configuration, home: Home, folder: Path) -> dict[str, str]:
    """File name → text, for Prometheus' and Grafana's files in `folder`."""
    targets = os.path.relpath(targets_file(home), folder)
    return {
        "rules.yml": _yaml(alerting_rules(configuration)),
        "prometheus.yml": _yaml(prometheus_config(configuration, targets)),
    } | {
        f"grafana/dashboards/{name}.json": json.dumps(dashboard(name), indent=1) + "\n"
        for name in DASHBOARDS
    }


def write_monitoring_files(configuration: Configuration, home: Home, folder: Path) -> None:
    """Write them; the folders are made."""
    for name, text in monitoring_files(configuration, home, folder.resolve()).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def _yaml(data: dict[str, Any]) -> str:
    return _HEADER + yaml.safe_dump(data, sort_keys=False, width=100)
