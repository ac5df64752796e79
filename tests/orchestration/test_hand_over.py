"""What steps hand on: nothing by Dagster itself, so that no pickle travels between pods."""

from typing import Any

import dagster as dg
import pytest

from orchestration.defs.lifecycle.names import Names
from orchestration.steps.base import Context, Step, Steps
from serving_config.load import load

pytestmark = [
    pytest.mark.filterwarnings("ignore:Specifying a partitions_def on an AssetCheckSpec"),
    pytest.mark.filterwarnings("ignore:Parameter .(backfill|freshness)_policy. of"),
]


class Instead(Steps):
    """The step's result without its work."""

    def __init__(self, result: Any) -> None:
        self._result = result

    def run(self, context: Context, step: Step[Any]) -> Any:
        return self._result


def test_no_step_takes_a_value_from_another() -> None:
    """Assets depend on each other by key alone (files and digests travel by themselves)."""
    from orchestration.definitions import defs

    repository = defs().get_repository_def()
    taken = [
        f"{job.name}: {node.name}.{given.name}"
        for job in repository.get_all_jobs()
        for node in job.all_node_defs
        for given in node.input_defs
        if not given.dagster_type.is_nothing
    ]
    assert taken == []


def test_dagster_stores_no_value_of_an_asset_that_is_materialized() -> None:
    """An I/O manager that refuses everything is never asked."""
    from orchestration.defs.lifecycle.assets import lifecycle_assets

    class Refusing(dg.IOManager):
        def handle_output(self, context: dg.OutputContext, obj: object) -> None:
            raise AssertionError(f"{context.asset_key} hands on {obj!r}")

        def load_input(self, context: dg.InputContext) -> object:
            raise AssertionError(f"{context.asset_key} is loaded")

    model = load(variables={}).models["iris"]
    key = Names("iris").asset("onnx_model")
    (asset,) = [asset for asset in lifecycle_assets(model) if asset.keys == {key}]
    made = dg.MaterializeResult(metadata={"path": "elsewhere"})  # type: ignore[var-annotated]
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions("iris_versions", ["1"])
        result = dg.materialize(
            [asset],
            partition_key="1",
            instance=instance,
            resources={
                "registry": dg.ResourceDefinition.none_resource(),
                "serving": dg.ResourceDefinition.none_resource(),
                "steps": Instead(made),
                "io_manager": Refusing(),
            },
        )
    assert result.success
