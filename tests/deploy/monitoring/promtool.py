"""Prometheus' own tool over rules, and over rules with series."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ABOUT = {"environment": "production", "model": "iris", "version": "3", "variant": "fp32"}


def binary(name: str) -> str:
    """Skips the test where Prometheus is not installed; in CI that is a failure."""
    found = shutil.which(name)
    if found is None:
        missing = f"{name} is not installed (Debian: apt-get install prometheus)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [binary("promtool"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    """One input series of a model server; values in promtool's notation, one for each second."""
    every = {"job": "slipway", "instance": "127.0.0.1:9000"} | ABOUT | labels
    inside = ",".join(f'{key}="{value}"' for key, value in every.items())
    return {"series": f"{name}{{{inside}}}", "values": values}


def firing(
    folder: Path,
    rules: dict[str, Any],
    inputs: list[dict[str, str]],
    at: dict[str, bool],
    name: str,
) -> None:
    """Fails unless the alert of that name fires for ABOUT, or does not, at each moment (`90s`)."""
    (folder / "rules.yml").write_text(yaml.safe_dump(rules))
    alert = next(
        rule
        for group in rules["groups"]
        for rule in group["rules"]
        if rule["alert"] == name and rule["labels"]["environment"] == ABOUT["environment"]
    )
    expression = f'ALERTS{{alertname="{name}",alertstate="firing"}}'
    labels = ABOUT | {"alertname": name, "alertstate": "firing"}
    labels |= {"severity": alert["labels"]["severity"]}
    if name in {"ModelServerDown", "ModelNotReady"}:  # of one target
        labels |= {"job": "slipway", "instance": "127.0.0.1:9000"}
    inside = ",".join(f'{key}="{value}"' for key, value in labels.items())
    sample = [{"labels": f"ALERTS{{{inside}}}", "value": 1}]
    expected = [
        {"expr": expression, "eval_time": moment, "exp_samples": sample if fires else []}
        for moment, fires in at.items()
    ]
    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1s",
        "tests": [{"interval": "1s", "input_series": inputs, "promql_expr_test": expected}],
    }
    (folder / "test.yml").write_text(yaml.safe_dump(test))
    done = promtool("test", "rules", folder / "test.yml")
    assert done.returncode == 0, done.stdout + done.stderr
