"""The sensors: a new model version starts its lifecycle; one proved in staging goes on, and its
variants follow it."""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import (
    UnresolvedAssetJobDefinition,
)

from bentos.model_server.certificate import CertificateError
from bentos.model_server.contract import VARIANTS
from deploy.challenge import ChallengeError
from deploy.dagster_names import ACTOR_TAG
from deploy.versions import MissingFileError
from orchestration.defs.lifecycle.decisions import Cursor, new_versions, promotes_itself
from orchestration.defs.lifecycle.names import AUTOMATIC_TAG, Names
from orchestration.labels import Label
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
            run_requests=[
                _run_request(model, str(version), "registry_sensor")
                for model, version in decision.requests
            ],
            dynamic_partitions_requests=[
                Names(model).partitions.build_add_request([str(v) for v in versions])
                for model, versions in decision.partitions.items()
            ],
            cursor=decision.cursor.write(),
        )

    return sensor


def _run_request(model: str, label: str, sensor: str, build: str = "") -> dg.RunRequest:
    """One run for each `build`."""
    return dg.RunRequest(
        run_key=f"{model}:{label}:{build}".rstrip(":"),
        job_name=Names(model).lifecycle_job,
        partition_key=label,
        tags={AUTOMATIC_TAG: "true", ACTOR_TAG: sensor},
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
        if not _was_deployment(context.dagster_run):
            return dg.SkipReason("the run was no deployment: it proved nothing in staging")
        model = by_job[context.dagster_run.job_name]
        return _promotion(model, str(context.partition_key), serving)

    return sensor


def _was_deployment(run: dg.DagsterRun) -> bool:
    steps = run.step_keys_to_execute
    return steps is None or any(step.endswith(_PROOFS) for step in steps)


def _promotion(model: Model, version: str, serving: Serving) -> dg.RunRequest | dg.SkipReason:
    if Label.parse(version).is_variant:
        return dg.SkipReason(f"{model.name} version {version} is a variant: promote it by hand")
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


def variant_sensor(configuration: Configuration, jobs: Jobs) -> dg.SensorDefinition:
    """The variants that a model's YAML names are built once the version itself is proved."""
    by_job = {Names(m.name).lifecycle_job: m for m in configuration.models.values()}

    @dg.run_status_sensor(
        name="variant_sensor",
        description="Starts the lifecycle of the variants of a version that passed staging.",
        run_status=dg.DagsterRunStatus.SUCCESS,
        monitored_jobs=[jobs[name] for name in by_job],
        request_jobs=[jobs[name] for name in by_job],
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(
        context: dg.RunStatusSensorContext, serving: Serving
    ) -> dg.SensorResult | dg.SkipReason:
        if not _was_deployment(context.dagster_run):
            return dg.SkipReason("the run was no deployment: it proved nothing in staging")
        model = by_job[context.dagster_run.job_name]
        return _variants(model, str(context.partition_key), serving)

    return sensor


def _variants(model: Model, version: str, serving: Serving) -> dg.SensorResult | dg.SkipReason:
    """A run for each variant of the version: one, and one more whenever the version's graph or
    contract has changed, so that both sides of a split take the same requests."""
    label, name = Label.parse(version), f"{model.name} version {version}"
    if label.is_variant or model.variants == VARIANTS[:1]:
        return dg.SkipReason(f"{name} has no variants")
    try:
        certificate = serving.folder(model.name, version).certificate()
    except (MissingFileError, CertificateError) as error:
        return dg.SkipReason(f"no variant of {name} is built: {error}")
    if not certificate.passed:
        return dg.SkipReason(f"no variant of {name} is built: its certificate did not pass")
    labels = [str(Label(label.number, variant)) for variant in model.variants[1:]]
    return dg.SensorResult(
        run_requests=[
            _run_request(model.name, text, "variant_sensor", certificate.contract_sha256[:12])
            for text in labels
        ],
        dynamic_partitions_requests=[Names(model.name).partitions.build_add_request(labels)],
    )
