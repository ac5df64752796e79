"""What is called how, and what all runs of batch jobs have in common."""

import dagster as dg

from orchestration.defs.lifecycle.names import Names

CHECK = "batch_drift"
# A job takes all cores of the machine: one at a time.
POOL = "batch"
# The platform's own limit of an hour is for what hangs; a job that was ended goes on where it was.
RUN_TAGS = {"dagster/max_runtime": "604800"}


def batch_key(model: str) -> dg.AssetKey:
    """The asset `<model>/batch_predictions`."""
    return Names(model).asset("batch_predictions")


def batch_asset_op(model: str) -> str:
    """The op that makes it, for run configurations."""
    return f"{Names(model).identifier}__batch_predictions"
