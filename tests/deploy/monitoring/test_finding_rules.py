"""The rules about findings, run by Prometheus' own tool; one value of a series is one second."""

from pathlib import Path

import pytest
import yaml

from deploy.monitoring.rules import alerting_rules
from serving_config.load import load
from tests.deploy.monitoring.promtool import promtool

RULES = alerting_rules(load(variables={}))
MODEL = 'environment="production",model="iris",version="3"'
FINDING = 'kind="schedule",environment="production",subject="iris_drift"'


def fires(folder: Path, alert: str, inputs: dict[str, str], at: dict[str, bool]) -> None:
    """Fails unless the alert fires, or does not, at each moment."""
    (folder / "rules.yml").write_text(yaml.safe_dump(RULES))
    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1s",
        "tests": [
            {
                "interval": "1s",
                "input_series": [{"series": n, "values": v} for n, v in inputs.items()],
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})',
                        "eval_time": moment,
                        "exp_samples": [{"labels": "{}", "value": 1}] if firing else [],
                    }
                    for moment, firing in at.items()
                ],
            }
        ],
    }
    (folder / "test.yml").write_text(yaml.safe_dump(test))
    done = promtool("test", "rules", folder / "test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("alert", "series"),
    [
        ("DataDrift", f'slipway_drift_status{{job="slipway",{MODEL}}}'),
        ("PredictionQuality", f'slipway_quality_status{{job="slipway",{MODEL}}}'),
        ("ScheduleFailed", f'slipway_finding_status{{job="slipway",{FINDING}}}'),
        (
            "StaleFeatures",
            'slipway_finding_status{job="slipway",kind="features",subject="customer_activity"}',
        ),
    ],
)
def test_a_failed_finding_fires_and_neither_a_passed_one_nor_too_few_rows_do(
    alert: str, series: str, tmp_path: Path
) -> None:
    at = {"5s": False, "15s": True, "25s": False}
    fires(tmp_path, alert, {series: "0x9 1x9 -1x20"}, at)


def test_a_schedule_fires_when_it_is_overdue(tmp_path: Path) -> None:
    inputs = {
        f'slipway_finding_unseen_seconds{{job="slipway",{FINDING}}}': "0+100x100 0x50",
        f'slipway_finding_valid_seconds{{job="slipway",{FINDING}}}': "3600x200",
    }
    fires(tmp_path, "ScheduleOverdue", inputs, {"70s": False, "80s": True, "110s": False})
