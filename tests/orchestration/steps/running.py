"""Steps in processes that Dagster Pipes starts, and the lifecycle's assets that ask for them."""

import sys
from typing import Any

import dagster as dg

from orchestration.defs.lifecycle.assets import lifecycle_assets
from orchestration.defs.lifecycle.checks import lifecycle_checks
from orchestration.defs.lifecycle.names import Names
from orchestration.resources.registry import Registry
from orchestration.resources.serving import Serving
from orchestration.steps.base import Elsewhere, Step, Steps
from serving_config.load import load


class InSubprocess(Elsewhere):
    """command: in place of the step's own, for one that goes wrong."""

    def __init__(self, command: list[str] | None = None) -> None:
        self._command = command

    def launch(
        self, context: dg.OpExecutionContext, step: Step[Any], command: list[str]
    ) -> dg.PipesClientCompletedInvocation:
        found = [sys.executable, *(self._command or command)]
        return dg.PipesSubprocessClient().run(
            context=context, command=found, extras=dict(step.extras)
        )


def exported(registry: Registry, steps: Steps, version: str = "1") -> dg.ExecuteInProcessResult:
    """A run of onnx_model and its check conversion_parity."""
    model = load().models["iris"]
    names = Names(model.name)
    key = names.asset("onnx_model")
    job = dg.define_asset_job("job", selection=[key])
    definitions = dg.Definitions(
        assets=lifecycle_assets(model)[:2],
        asset_checks=lifecycle_checks(model)[:1],
        jobs=[job],
        resources={
            "registry": registry,
            "serving": Serving.from_environment(),
            "steps": steps,
        },
    )
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions("iris_versions", [version])
        return definitions.resolve_job_def("job").execute_in_process(
            instance=instance, partition_key=version, raise_on_error=False
        )


def failure(result: dg.ExecuteInProcessResult) -> str:
    """The one failed step's sentence."""
    (event,) = [event for event in result.all_events if event.is_step_failure]
    data = event.step_failure_data
    assert data.user_failure_data is not None, data.error_display_string
    assert data.user_failure_data.description is not None
    return data.user_failure_data.description
