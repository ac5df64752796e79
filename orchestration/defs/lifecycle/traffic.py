"""What the ledger's events mean to Dagster and MLflow. Pure functions."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from deploy.events import Event
from deploy.live import most_traffic
from orchestration.defs.lifecycle.deployment_metadata import weights_table
from orchestration.defs.lifecycle.names import Names
from orchestration.svg import markdown_image, weights_svg
from serving_config.schema import Model


def traffic_spec(model: Model) -> dg.AssetSpec:
    """The asset `<model>/traffic`, whose events are the ledger's."""
    names = Names(model.name)
    return dg.AssetSpec(
        names.asset("traffic"),
        deps=[names.asset("staging_deployment"), names.asset("production_deployment")],
        group_name=names.identifier,
        kinds={"envoy"},
        description="Which versions get how much of the traffic: every change, by whom and why.",
    )


def aliases(events: Sequence[Event], models: Mapping[str, Model]) -> dict[tuple[str, str], int]:
    """(registered model, alias) → version, as the last of the events has it.

    models: by name; an event of a model that is no longer configured moves nothing.
    """
    found: dict[tuple[str, str], int] = {}
    for event in events:
        served = most_traffic(event.live)
        if event.model in models and served is not None:
            found[models[event.model].registered_model, event.environment] = served.version
    return found


def materialization(
    event: Event, history: Sequence[Event], dagster_url: str
) -> dg.AssetMaterialization:
    """The event as one of the asset `<model>/traffic`.

    history: the latest events of the same model and environment, up to and with this one.
    """
    metadata: dict[str, Any] = {
        "environment": event.environment,
        "action": event.action,
        "version": event.label,
        "generation": event.generation,
        "weights": weights_table(event.live),
        "actor": event.actor,
        "at": event.at,
        "ledger_event": event.id,
        "weights_over_time": dg.MetadataValue.md(
            markdown_image("weights over time", weights_svg(history))
        ),
    }
    if reason := event.evidence.get("reason"):
        metadata["reason"] = str(reason)
    if event.dagster_run:
        metadata["dagster_run"] = dg.MetadataValue.url(f"{dagster_url}/runs/{event.dagster_run}")
    return dg.AssetMaterialization(
        asset_key=Names(event.model).asset("traffic"),
        description=f"{event.action} of version {event.label} in {event.environment}",
        metadata=metadata,
    )
