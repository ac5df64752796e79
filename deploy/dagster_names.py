"""What Dagster's side calls what others start: importing Dagster for it would cost 2 s."""

from typing import Literal

from serving_config.schema import Configuration

# Who started the run, as the ledger will say.
ACTOR_TAG = "slipway/actor"
# Of a person's run: how this once the version replaces the one that serves.
POLICY_TAG = "slipway/policy"
# Of a person's drift run: hours of the window, in place of the settings'.
WINDOW_TAG = "slipway/window_hours"

# Of the prediction log and the labels, for all models together.
COMPACTION_JOB, RETENTION_JOB = "prediction_compaction", "prediction_retention"
LABEL_DROP_JOB = "label_drop"

# Of what is put into the models' drop folders to be scored.
BATCH_DROP_SENSOR = "batch_drop_sensor"

# Why a model is trained, and which finding asked for it.
REASON_TAG = "slipway/reason"
FINDING_TAG = "slipway/finding"


def identifier(model: str) -> str:
    """`spam-detector` → `spam_detector`; names have no underscores, so no two collide."""
    return model.replace("-", "_")


def job_name(model: str, environment: str) -> str:
    """The job that takes a version of the model to staging or production."""
    return f"{identifier(model)}_to_{environment}"


def partitions_name(model: str) -> str:
    """The dynamic partitions whose keys are the model's versions."""
    return f"{model}_versions"


def monitoring_job(model: str, kind: Literal["drift", "quality"]) -> str:
    """The job that looks at what the model's live traffic says."""
    return f"{identifier(model)}_{kind}"


def materialize_job(view: str) -> str:
    """The job that materializes a feature view."""
    return f"materialize_{view}"


def training_job(model: str) -> str:
    """The job that trains the model."""
    return f"{identifier(model)}_training"


def audit_job(model: str) -> str:
    """The job that compares the features a model was served with the offline store."""
    return f"{identifier(model)}_feature_audit"


def batch_job(model: str) -> str:
    """The job that scores a day."""
    return f"{identifier(model)}_batch"


def batch_request_job(model: str) -> str:
    """The job that carries out what was posted to `/v1/batch-jobs`."""
    return f"{identifier(model)}_batch_job"


def batch_request_op(model: str) -> str:
    """Its op, which takes the request as its configuration."""
    return f"{identifier(model)}_batch_job_request"


def watched_jobs(configuration: Configuration) -> set[str]:
    """The jobs that run by themselves, as the settings have them, and tell when they fail."""
    found = {COMPACTION_JOB, RETENTION_JOB, LABEL_DROP_JOB}
    found |= {materialize_job(view) for view in configuration.features.views}
    for model in configuration.models.values():
        found |= {monitoring_job(model.name, "quality"), batch_job(model.name)}
        if model.drift.enabled:
            found.add(monitoring_job(model.name, "drift"))
        if model.feature_service:
            found.add(audit_job(model.name))
        if model.retraining:
            found.add(training_job(model.name))
    return found
