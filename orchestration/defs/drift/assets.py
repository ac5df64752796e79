"""`<model>/drift` and `<model>/quality`, partitioned by environment, with their checks.

A check that cannot say anything gives no result: Dagster then shows it as skipped, which is
neither passed nor failed. Only an asset whose checks are optional (`can_subset`) may do that.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from deploy.dagster_names import WINDOW_TAG
from orchestration.defs.drift.metadata import (
    column_metadata,
    drift_metadata,
    prediction_metadata,
    quality_metadata,
)
from orchestration.defs.lifecycle.failures import one_sentence
from orchestration.defs.lifecycle.names import Names
from orchestration.resources.registry import Registry
from orchestration.resources.serving import Serving
from serving_config.schema import Configuration, Model

_CHECKS = {
    "data_drift": "The share of drifted columns in the log's last window is within its limit.",
    "prediction_drift": "The answers are distributed as those to the training data.",
    "text_drift": "Statistics of the texts are distributed as those of the training data.",
}


def environments(configuration: Configuration) -> dg.StaticPartitionsDefinition:
    """One partition for each configured environment."""
    return dg.StaticPartitionsDefinition(sorted(configuration.environments))


def monitoring_assets(model: Model, configuration: Configuration) -> list[dg.AssetsDefinition]:
    """`<model>/drift` and `<model>/quality`."""
    partitions = environments(configuration)
    return [_drift(model, partitions), _quality(model, partitions)]


def _place(context: dg.AssetExecutionContext, model: Model, serving: Serving):  # type: ignore[no-untyped-def]
    from orchestration.monitoring.looks import Place

    configuration = serving.configuration
    return Place(
        home=serving.paths,
        configuration=configuration,
        model=configuration.models.get(model.name, model),
        environment=context.partition_key,
        now=datetime.now(UTC),
        url=f"{serving.dagster_url}/runs/{context.run.run_id}",
    )


def _drift(model: Model, partitions: dg.StaticPartitionsDefinition) -> dg.AssetsDefinition:
    names = Names(model.name)
    key = names.asset("drift")

    @dg.multi_asset(
        name=f"{names.identifier}__drift",
        specs=[
            dg.AssetSpec(
                key,
                group_name=names.identifier,
                partitions_def=partitions,
                kinds={"evidently"},
                description="The log's last window against the training data of its version.",
            )
        ],
        check_specs=[
            dg.AssetCheckSpec(name, asset=key, description=text) for name, text in _CHECKS.items()
        ],
        can_subset=True,
    )
    def drift(
        context: dg.AssetExecutionContext, registry: Registry, serving: Serving
    ) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
        from orchestration.monitoring.looks import look_at_drift

        hours = context.run.tags.get(WINDOW_TAG)
        with one_sentence():
            place = _place(context, model, serving)
            report = look_at_drift(place, registry, float(hours) if hours else None)
        context.log.info(report.result.reason)
        page = f"{serving.gateway_url}/v1/drift/{model.name}/report"
        address = f"{page}?environment={place.environment}"
        found = {
            "data_drift": column_metadata(report.result),
            "prediction_drift": prediction_metadata(report.result),
            "text_drift": column_metadata(report.result, "text"),
        }
        yield dg.MaterializeResult(
            asset_key=key,
            metadata=drift_metadata(report, serving.paths, address),
            check_results=[
                dg.AssetCheckResult(
                    check_name=name,
                    asset_key=key,
                    passed=passed,
                    severity=dg.AssetCheckSeverity.ERROR,
                    description=report.result.reason,
                    metadata=found[name] | {"report": dg.MetadataValue.url(address)},
                )
                for name, passed in report.result.checks.items()
            ],
        )

    return drift


def _quality(model: Model, partitions: dg.StaticPartitionsDefinition) -> dg.AssetsDefinition:
    names = Names(model.name)
    key = names.asset("quality")

    @dg.multi_asset(
        name=f"{names.identifier}__quality",
        specs=[
            dg.AssetSpec(
                key,
                group_name=names.identifier,
                partitions_def=partitions,
                kinds={"scikitlearn"},
                description="How good the answers were whose labels are known by now.",
            )
        ],
        check_specs=[
            dg.AssetCheckSpec(
                "live_quality",
                asset=key,
                description="The model's own metric over the labelled answers keeps its limit.",
            )
        ],
        can_subset=True,
    )
    def measured(
        context: dg.AssetExecutionContext, serving: Serving
    ) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
        from orchestration.monitoring.looks import look_at_quality

        with one_sentence():
            report = look_at_quality(_place(context, model, serving))
        context.log.info(report.result.reason)
        metadata = quality_metadata(report)
        checks = []
        if report.result.verdict != "not_enough_data":
            checks = [
                dg.AssetCheckResult(
                    check_name="live_quality",
                    asset_key=key,
                    passed=report.result.verdict == "passed",
                    severity=dg.AssetCheckSeverity.ERROR,
                    description=report.result.reason,
                    metadata=metadata,
                )
            ]
        yield dg.MaterializeResult(asset_key=key, metadata=metadata, check_results=checks)

    return measured
