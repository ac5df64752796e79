"""All of Slipway's Dagster definitions, made from serving_config/."""

import os
from pathlib import Path

import dagster as dg

from deploy.dagster_names import COMPACTION_JOB, watched_jobs
from orchestration.defs.batch.assets import batch_assets
from orchestration.defs.batch.jobs import batch_jobs, batch_request_jobs
from orchestration.defs.batch.schedules import batch_schedules, schedule_seconds
from orchestration.defs.batch.sensors import batch_sensors
from orchestration.defs.drift.assets import monitoring_assets
from orchestration.defs.drift.schedules import monitoring_jobs, monitoring_schedules
from orchestration.defs.drift.sensors import schedule_sensors
from orchestration.defs.features.assets import feature_assets
from orchestration.defs.features.audit import audit_assets, audit_jobs, audit_schedules
from orchestration.defs.features.jobs import feature_jobs, feature_schedules
from orchestration.defs.features.sensors import feature_sensors
from orchestration.defs.lifecycle.assets import lifecycle_assets
from orchestration.defs.lifecycle.checks import lifecycle_checks
from orchestration.defs.lifecycle.jobs import lifecycle_jobs, rollback_job
from orchestration.defs.lifecycle.ledger_sensor import ledger_sensor
from orchestration.defs.lifecycle.sensors import promotion_sensor, registry_sensor, variant_sensor
from orchestration.defs.lifecycle.traffic import traffic_spec
from orchestration.defs.predictions.assets import prediction_assets
from orchestration.defs.predictions.jobs import prediction_jobs
from orchestration.defs.retraining.gate import better_than_production
from orchestration.defs.retraining.sensor import retraining_sensors
from orchestration.defs.retraining.training import training_assets, training_jobs
from orchestration.kubernetes.executor import step_pods, steps
from orchestration.kubernetes.tags import pod_tags
from orchestration.resources.registry import Registry
from orchestration.resources.serving import Serving
from serving_config.load import FOLDER, load


@dg.definitions
def defs() -> dg.Definitions:
    """One group of assets for each configured model; the sensors and resources they share."""
    configuration = load(Path(os.environ.get("SLIPWAY_CONFIG") or FOLDER))
    models, tags = list(configuration.models.values()), pod_tags(configuration)
    jobs = {job.name: job for m in models for job in lifecycle_jobs(m, configuration)}
    training = training_jobs(configuration)
    audits = audit_jobs(configuration)
    of_features = feature_jobs(configuration)
    monitoring = {name: job for m in models for name, job in monitoring_jobs(m).items()}
    batch = batch_jobs(configuration)
    of_log, log_schedules, log_sensors = prediction_jobs()
    names = watched_jobs(configuration)
    by_themselves = [
        job
        for job in (
            *of_features.values(),
            *audits.values(),
            *monitoring.values(),
            *training.values(),
            *batch.values(),
            *of_log,
        )
        if job.name in names
    ]
    return dg.Definitions(
        assets=[
            *(asset for model in models for asset in lifecycle_assets(model, tags)),
            *(traffic_spec(model) for model in models),
            *feature_assets(configuration),
            *audit_assets(configuration),
            *training_assets(configuration),
            *prediction_assets(),
            *batch_assets(configuration),
            *(asset for model in models for asset in monitoring_assets(model, configuration)),
        ],
        asset_checks=[
            *(check for model in models for check in lifecycle_checks(model, tags)),
            *(better_than_production(model) for model in models),
        ],
        jobs=[
            *jobs.values(),
            *(rollback_job(model, tags) for model in models),
            *of_features.values(),
            *audits.values(),
            *training.values(),
            *monitoring.values(),
            *batch.values(),
            *batch_request_jobs(configuration),
            *of_log,
        ],
        schedules=[
            *feature_schedules(configuration, of_features),
            *audit_schedules(audits),
            *log_schedules,
            *batch_schedules(configuration, batch),
            *(s for m in models for s in monitoring_schedules(m, configuration, monitoring)),
        ],
        sensors=[
            registry_sensor(configuration, jobs),
            promotion_sensor(configuration, jobs),
            variant_sensor(configuration, jobs),
            ledger_sensor(configuration),
            *feature_sensors(configuration, of_features),
            *retraining_sensors(configuration, training),
            *log_sensors,
            *batch_sensors(configuration, batch),
            *schedule_sensors(
                by_themselves,
                dict.fromkeys(monitoring, 3600.0)
                | {COMPACTION_JOB: 300.0}
                | schedule_seconds(configuration),
            ),
        ],
        resources={
            "registry": Registry(tracking_uri=configuration.platform.mlflow.uri),
            "serving": Serving.from_environment(),
            "steps": steps(configuration),
        },
        executor=step_pods(configuration),
    )
