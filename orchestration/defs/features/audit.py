"""The asset `<model>/feature_audit` and its check `features_skew`: online against offline."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import (
    UnresolvedAssetJobDefinition,
)

from deploy.dagster_names import audit_job
from orchestration.defs.lifecycle.failures import one_sentence
from orchestration.defs.lifecycle.metadata import table
from orchestration.defs.lifecycle.names import Names
from orchestration.features.replay import Window, feature_audit
from orchestration.features.windows import rfc3339
from orchestration.kubernetes.tags import pod_tags
from orchestration.monitoring.skew import Audit
from orchestration.resources.serving import Serving
from serving_config.schema import Configuration, Model

CHECK = "features_skew"
_MAX_SHOWN = 100
_CRON = "40 1 * * *"

Jobs = dict[str, UnresolvedAssetJobDefinition]


class AuditWindow(dg.Config):
    """Which answers: of the last hours, in that environment."""

    hours: float = 24
    environment: str = "production"


def audit_assets(configuration: Configuration) -> list[dg.AssetsDefinition]:
    """One for each model that asks for features."""
    return [_audit(model) for model in _models(configuration)]


def audit_jobs(configuration: Configuration) -> Jobs:
    """By model: `<model>_feature_audit`."""
    return {
        model.name: dg.define_asset_job(
            audit_job(model.name),
            selection=dg.AssetSelection.assets(audit_key(model.name)),
            executor_def=dg.in_process_executor,
            description=f"{model.name}: what was served online against the offline store.",
            tags=pod_tags(configuration).run("features"),
        )
        for model in _models(configuration)
    }


def audit_schedules(jobs: Jobs) -> list[dg.ScheduleDefinition]:
    """Daily. jobs: by model."""
    return [
        dg.ScheduleDefinition(
            name=f"{audit_job(model)}_schedule",
            job=job,
            cron_schedule=_CRON,
            execution_timezone="UTC",
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description=f"Holds the features that {model} was served against the offline store.",
        )
        for model, job in jobs.items()
    ]


def audit_key(model: str) -> dg.AssetKey:
    """The asset's key."""
    return Names(model).asset("feature_audit")


def _models(configuration: Configuration) -> list[Model]:
    return [model for model in configuration.models.values() if model.feature_service]


def _audit(model: Model) -> dg.AssetsDefinition:
    key = audit_key(model.name)

    @dg.multi_asset(
        name=key.to_python_identifier(),
        specs=[
            dg.AssetSpec(
                key,
                group_name=Names(model.name).identifier,
                kinds={"feast"},
                description="Logged answers whose features were looked up, replayed offline.",
            )
        ],
        check_specs=[
            dg.AssetCheckSpec(
                CHECK,
                asset=key,
                description="What was served online equals the offline value of that moment.",
            )
        ],
        can_subset=True,  # only then may a check that compared nothing stay without a result
    )
    def feature_audit_of(
        context: dg.AssetExecutionContext, config: AuditWindow, serving: Serving
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        now = datetime.now(UTC)
        window = Window(config.environment, now - timedelta(hours=config.hours), now)
        with one_sentence():
            found = feature_audit(serving.paths, serving.configuration, model, window)
        metadata = audit_metadata(found, window)
        yield dg.MaterializeResult(asset_key=key, metadata=metadata)
        if found.values:
            yield dg.AssetCheckResult(
                asset_key=key,
                check_name=CHECK,
                passed=not found.differences,
                metadata=metadata,
            )

    return feature_audit_of


def audit_metadata(found: Audit, window: Window) -> dict[str, Any]:
    """Counts, and the rows that differ."""
    metadata: dict[str, Any] = {
        "environment": window.environment,
        "window": f"{rfc3339(window.since)} to {rfc3339(window.until)}",
        "rows": found.rows,
        "values_compared": found.values,
        "differences": len(found.differences),
        "tolerance": 0,
    }
    if not found.rows:
        metadata["note"] = "no answer was looked up by entities: nothing to compare, no verdict"
    if found.apart:
        counts = sorted(found.apart.items())
        metadata["not_compared"] = table([{"look-up": name, "rows": n} for name, n in counts])
    if found.hidden:
        metadata["not_logged"] = ", ".join(found.hidden)
    if found.differences:
        metadata["rows_that_differ"] = table(
            [
                {
                    "entity": ", ".join(f"{k}={v}" for k, v in item.served.entities.items()),
                    "view": item.view,
                    "feature": item.feature,
                    "online": item.online,
                    "offline": item.offline,
                    "as of": rfc3339(item.as_of),
                    "served at": rfc3339(item.served.time),
                    "request_id": item.served.request_id,
                    "row": item.served.row,
                }
                for item in found.differences[:_MAX_SHOWN]
            ]
        )
    return metadata
