"""The sensors: a new model version starts its lifecycle; one proved in staging goes on."""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import (
    UnresolvedAssetJobDefinition,
)

from bentos.model_server.certificate import CertificateError
from deploy.challenge import ChallengeError
from deploy.dagster_names import ACTOR_TAG
from deploy.versions import MissingFileError
from orchestration.defs.lifecycle.decisions import Cursor, new_versions, promotes_itself
from orchestration.defs.lifecycle.names import AUTOMATIC_TAG, Names
from orchestration.resources.registry import Registry
from orchestration.resources.serving import Serving
from serving_config.schema import Configuration, Model

# The checks of a staging deployment, the last of which makes a version ready for production.
_PROOFS = ("_smoke_test", "_better_than_production")
Jobs = dict[str, UnresolvedAssetJobDefinition]


def registry_sensor(configuration: Configuration, jobs: Jobs) -> dg.SensorDefinition:
    """Polls the registry, the source of truth; `run_key` makes every version run once."""
    models = list(configuration.models.values())

    @dg.sensor(
        name="registry_sensor",
        description="Starts the lifecycle of every new model version in the MLflow registry.",
        jobs=[jobs[Names(model.name).lifecycle_job] for model in models],
        minimum_interval_seconds=configuration.platform.sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(
        context: dg.SensorEvaluationContext, registry: Registry
    ) -> dg.SensorResult | dg.SkipReason:
        cursor = Cursor.read(context.cursor)
        registered = registry.names()
        found = {
            model.name: registry.versions(
                model.registered_model, cursor.seen.get(model.registered_model, 0)
            )
            for model in models
            if model.registered_model in registered
        }
        decision = new_versions(cursor, registered, found, models)
        for note in decision.notes:
            context.log.info(note)
        if not decision.requests and decision.cursor == cursor:
            return dg.SkipReason("no new version of a configured model")
        return dg.SensorResult(
            run_requests=[_run_request(model, version) for model, version in decision.requests],
            dynamic_partitions_requests=[
                Names(model).partitions.build_add_request([str(v) for v in versions])
                for model, versions in decision.partitions.items()
            ],
            cursor=decision.cursor.write(),
        )

    return sensor


def _run_request(model: str, version: int) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{model}:{version}",
        job_name=Names(model).lifecycle_job,
        partition_key=str(version),
        tags={AUTOMATIC_TAG: "true", ACTOR_TAG: "registry_sensor"},
    )


def promotion_sensor(configuration: Configuration, jobs: Jobs) -> dg.SensorDefinition:
    """Promotion is a run of its own, started here where the model's policy is `auto`."""
    by_job = {Names(m.name).lifecycle_job: m for m in configuration.models.values()}

    @dg.run_status_sensor(
        name="promotion_sensor",
        description="Promotes a version that passed staging, where the model's policy is auto.",
        run_status=dg.DagsterRunStatus.SUCCESS,
        monitored_jobs=[jobs[name] for name in by_job],
        request_jobs=[jobs[Names(m.name).promotion_job] for m in configuration.models.values()],
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(
        context: dg.RunStatusSensorContext, serving: Serving
    ) -> dg.RunRequest | dg.SkipReason:
        model = by_job[context.dagster_run.job_name]
        steps = context.dagster_run.step_keys_to_execute
        if steps is not None and not any(step.endswith(_PROOFS) for step in steps):
            return dg.SkipReason("the run was no deployment: it proved nothing in staging")
        return _promotion(model, str(context.partition_key), serving)

    return sensor


def _promotion(model: Model, version: str, serving: Serving) -> dg.RunRequest | dg.SkipReason:
    folder = serving.folder(model.name, version)
    try:
        certificate, challenge = folder.certificate(), folder.challenge()
        challenge.require(certificate.onnx_sha256)
    except (MissingFileError, CertificateError, ChallengeError) as error:
        return dg.SkipReason(f"{model.name} version {version} is not promoted: {error}")
    if not promotes_itself(model, certificate):
        return dg.SkipReason(
            f"{model.name} version {version} waits for `slipway promote`: promotion is "
            f"{model.promotion}, its certificate {'passed' if certificate.passed else 'did not'}"
        )
    return dg.RunRequest(
        run_key=f"{model.name}:{version}:{certificate.digest()[:12]}",
        job_name=Names(model.name).promotion_job,
        partition_key=version,
        tags={AUTOMATIC_TAG: "true", ACTOR_TAG: "promotion_sensor"},
    )
