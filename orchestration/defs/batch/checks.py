"""The check `batch_drift` of `<model>/batch_predictions`."""

import logging
from collections.abc import Iterator

import dagster as dg

from deploy.home import Home
from orchestration.batch.documents import Manifest
from orchestration.defs.batch.names import CHECK, batch_key
from orchestration.defs.drift.metadata import column_metadata
from orchestration.defs.lifecycle.failures import one_sentence, said_by
from orchestration.resources.registry import Registry
from serving_config.schema import Model


def drift_specs(model: Model) -> list[dg.AssetCheckSpec]:
    """None where the settings have switched it off."""
    if not model.batch.drift_check:
        return []
    return [
        dg.AssetCheckSpec(
            CHECK,
            asset=batch_key(model.name),
            description="The day's input and predictions are distributed as the training data.",
        )
    ]


def batch_check(
    log: logging.Logger, home: Home, registry: Registry, model: Model, manifest: Manifest
) -> Iterator[dg.AssetCheckResult]:
    """No result where there is too little to tell: neither passed nor failed. Where it cannot be
    told at all the check has failed, and the run has not: the day's result is there."""
    from orchestration.monitoring.batch_input import batch_drift

    try:
        with one_sentence():
            result = batch_drift(home, registry, model, manifest)
    except Exception as error:
        log.exception("%s could not be checked", CHECK)
        yield _unchecked(model, error)
        return
    if result.verdict == "not_enough_data":
        return
    yield dg.AssetCheckResult(
        asset_key=batch_key(model.name),
        check_name=CHECK,
        passed=result.verdict == "passed",
        severity=dg.AssetCheckSeverity.ERROR,
        description=result.reason,
        metadata={"rows": result.rows, "reference_rows": result.reference_rows}
        | column_metadata(result),
    )


def _unchecked(model: Model, error: Exception) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=batch_key(model.name),
        check_name=CHECK,
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"could not be checked: {said_by(error)}",
    )
