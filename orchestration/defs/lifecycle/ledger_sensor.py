"""The sensor over the ledger: Dagster's UI and MLflow's aliases follow what serves."""

import dagster as dg

from deploy.events import Event
from deploy.ledger import Ledger
from orchestration.defs.lifecycle.traffic import aliases, materialization
from orchestration.resources.registry import NotInRegistryError, Registry
from orchestration.resources.serving import Serving
from serving_config.schema import Configuration

_INTERVAL_SECONDS = 2
# Of a long ledger that nobody has read yet the last ones will do.
_EVENTS_A_TICK = 50
_SHOWN_EVENTS = 30


def ledger_sensor(configuration: Configuration) -> dg.SensorDefinition:
    """Reports every change of the ledger, whoever made it, and moves MLflow's aliases.

    Its cursor is the last event's id and moves only when all of a tick has succeeded; to report
    an event again, or to set an alias again, does no harm.
    """
    models = configuration.models

    @dg.sensor(
        name="ledger_sensor",
        description="Reports every change of what serves, and moves MLflow's aliases after it.",
        minimum_interval_seconds=_INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(
        context: dg.SensorEvaluationContext, registry: Registry, serving: Serving
    ) -> dg.SensorResult | dg.SkipReason:
        with serving.open_ledger() as ledger:
            events = _new_events(ledger, context.cursor)
            known = [event for event in events if event.model in models]
            history = {
                (event.model, event.environment): ledger.events(event.model, event.environment)
                for event in known
            }
        if not events:
            return dg.SkipReason("nothing changed")
        for (name, alias), version in aliases(known, models).items():
            try:
                registry.set_alias(name, alias, version)
            except NotInRegistryError as error:  # it was deleted there; no retry brings it back
                context.log.warning(str(error))
        return dg.SensorResult(
            asset_events=[
                materialization(
                    event,
                    _up_to(event, history[event.model, event.environment]),
                    serving.dagster_url,
                )
                for event in known
            ],
            cursor=str(events[-1].id),
        )

    return sensor


def _up_to(event: Event, history: list[Event]) -> list[Event]:
    return [item for item in history if item.id <= event.id][-_SHOWN_EVENTS:]


def _new_events(ledger: Ledger, cursor: str | None) -> list[Event]:
    if cursor is None or _is_of_another(ledger, int(cursor)):
        return ledger.events()[-_EVENTS_A_TICK:]
    return ledger.events(after=int(cursor), limit=_EVENTS_A_TICK)


def _is_of_another(ledger: Ledger, cursor: int) -> bool:
    """Whether the ledger has never had that event: SLIPWAY_LEDGER_URL names another one now."""
    return cursor > 0 and not ledger.events(after=cursor - 1, limit=1)
