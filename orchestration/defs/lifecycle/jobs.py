"""The lifecycle's two jobs for one model, each in one process: five steps cost no start-ups."""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import (
    UnresolvedAssetJobDefinition,
)

from orchestration.defs.lifecycle.names import Names
from serving_config.schema import Model


def lifecycle_jobs(model: Model) -> list[UnresolvedAssetJobDefinition]:
    """To staging, and from there to production."""
    names = Names(model.name)
    production = dg.AssetSelection.assets(names.asset("production_deployment"))
    everything = dg.AssetSelection.groups(names.identifier)
    return [
        dg.define_asset_job(
            names.lifecycle_job,
            selection=everything - production,
            executor_def=dg.in_process_executor,
            description=f"{model.name}: from the registry to staging, proved on the way.",
        ),
        dg.define_asset_job(
            names.promotion_job,
            selection=production,
            executor_def=dg.in_process_executor,
            description=f"{model.name}: from staging to production.",
        ),
    ]
