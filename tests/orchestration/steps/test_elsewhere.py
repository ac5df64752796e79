"""The same step here and in a process of its own: what Dagster hears is the same."""

from typing import Any

import dagster as dg
import pytest

from orchestration.resources.registry import Registry
from orchestration.resources.serving import Serving
from orchestration.steps.base import InProcess
from tests.orchestration.steps.running import InSubprocess, exported, failure

pytestmark = [
    pytest.mark.filterwarnings("ignore:Specifying a partitions_def on an AssetCheckSpec"),
    # Of dagster about its own code.
    pytest.mark.filterwarnings("ignore:.*expected_writer_count"),
]


def heard(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """Metadata of the asset and of its check, without what differs from run to run."""
    (made,) = result.get_asset_materialization_events()
    (check,) = result.get_asset_check_evaluations()
    assert made.materialization.tags is not None
    version = made.materialization.tags["dagster/data_version"]
    metadata = dict(made.materialization.metadata)
    assert metadata["onnx_sha256"].value == version
    own = {"onnx_sha256", "certificate_sha256", "example"}
    return {
        "asset": {name: value for name, value in metadata.items() if name not in own},
        "check": {name: value for name, value in check.metadata.items() if name not in own},
        "passed": check.passed,
        "key": check.asset_key,
    }


def test_a_version_is_exported_and_proved_by_processes_that_report_by_pipes(
    registry: Registry,
) -> None:
    there = exported(registry, InSubprocess())
    assert there.success
    folder = Serving.from_environment().folder("iris", 1)
    folder.certificate().require_parity(folder.contract(), folder.onnx_sha256())
    (made,) = there.get_asset_materialization_events()
    assert made.materialization.metadata["onnx_sha256"].value == folder.onnx_sha256()
    assert registry.get("iris", 1).tags["slipway.dagster_run"].endswith(there.run_id)
    here = exported(registry, InProcess())
    assert heard(there) == heard(here)


def test_what_cannot_be_exported_is_the_same_sentence_from_there(registry: Registry) -> None:
    here = failure(exported(registry, InProcess(), "77"))
    there = failure(exported(registry, InSubprocess(), "77"))
    assert "77" in there
    assert there == here
    assert "\n" not in there


def test_a_process_that_says_nothing_has_failed(registry: Registry) -> None:
    said = failure(exported(registry, InSubprocess(["-c", "pass"])))
    assert said == "export iris 1: it ended without saying what came out"
