"""The sensor that trains a model again when its checks ask for it."""

from datetime import UTC, datetime

import dagster as dg

from deploy.dagster_names import ACTOR_TAG, FINDING_TAG, REASON_TAG, training_job
from deploy.findings import FindingsError, read_finding
from orchestration.defs.retraining.training import Jobs
from orchestration.monitoring.fresh import fresh_count
from orchestration.monitoring.retraining import Train, Wait, decide
from orchestration.resources.registry import Registry
from orchestration.resources.serving import Serving
from serving_config.monitoring import Retraining
from serving_config.schema import Configuration, Model

SENSOR = "retraining_sensor"
# The run's page shows the whole reason; a tag of any length would hide the list of runs.
_LONGEST_REASON = 250


def retraining_sensors(configuration: Configuration, jobs: Jobs) -> list[dg.SensorDefinition]:
    """One where a model has `retraining`. jobs: by model."""
    watched = [(m, m.retraining) for m in configuration.models.values() if m.retraining]
    if not watched:
        return []

    @dg.sensor(
        name=SENSOR,
        description="Trains a model again whose drift or quality check fails, as its YAML says.",
        jobs=[jobs[model.name] for model, _ in watched],
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(
        context: dg.SensorEvaluationContext, registry: Registry, serving: Serving
    ) -> dg.SensorResult | dg.SkipReason:
        requests, waits = [], []
        for model, settings in watched:
            try:
                decision = look(context.instance, registry, serving, model, settings)
            except FindingsError as error:  # no other model waits for it
                decision = Wait(str(error))
            if isinstance(decision, Train):
                requests.append(_run_request(model, decision))
            else:
                waits.append(f"{model.name}: {decision.reason}")
        if not requests:
            return dg.SkipReason("; ".join(waits))
        for wait in waits:
            context.log.info(wait)
        return dg.SensorResult(run_requests=requests)

    return [sensor]


def look(
    instance: dg.DagsterInstance,
    registry: Registry,
    serving: Serving,
    model: Model,
    settings: Retraining,
) -> Train | Wait:
    """What the findings of one model lead to now."""
    now = datetime.now(UTC)
    read = (
        read_finding(serving.paths, kind, settings.environment, model.name)
        for kind in settings.checks
    )

    def rows() -> int:
        since = registry.newest_version_at(model.registered_model)
        return fresh_count(serving.paths, serving.configuration, model, since, now)

    return decide(
        settings,
        [finding for finding in read if finding],
        lambda: last_training(instance, registry, model),
        rows,
        now,
    )


def last_training(
    instance: dg.DagsterInstance, registry: Registry, model: Model
) -> datetime | None:
    """When the last one began: a run of the job, however it ended, or what anybody registered."""
    wanted = dg.RunsFilter(job_name=training_job(model.name))
    records = instance.get_run_records(wanted, limit=1)
    times = [record.create_timestamp for record in records]
    if (registered := registry.newest_version_at(model.registered_model)) is not None:
        times.append(registered)
    return max(times, default=None)


def _run_request(model: Model, decision: Train) -> dg.RunRequest:
    finding = decision.finding
    name = f"{finding.kind} {finding.environment} {finding.at}"
    return dg.RunRequest(
        run_key=f"{model.name} {name}",
        job_name=training_job(model.name),
        tags={
            ACTOR_TAG: SENSOR,
            REASON_TAG: decision.reason[:_LONGEST_REASON],
            FINDING_TAG: name,
        },
    )
