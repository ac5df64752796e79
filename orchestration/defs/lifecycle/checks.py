"""The lifecycle's asset checks. They write the certificate that deployments demand."""

import dagster as dg
import msgspec

from orchestration.defs.lifecycle.failures import one_sentence
from orchestration.defs.lifecycle.health import ask_golden, release_health
from orchestration.defs.lifecycle.metadata import http_metadata
from orchestration.defs.lifecycle.names import Names
from orchestration.kubernetes.tags import LOCAL, PodTags
from orchestration.labels import Label
from orchestration.resources.registry import Registry
from orchestration.resources.serving import Serving
from orchestration.steps.base import Steps
from orchestration.steps.lifecycle import verify_step
from serving_config.schema import Model


def lifecycle_checks(model: Model, tags: PodTags = LOCAL) -> list[dg.AssetChecksDefinition]:
    """conversion_parity, smoke_test, release_health."""
    return [
        _conversion_parity(model, tags),
        _smoke_test(model, tags),
        release_health(model, tags),
    ]


def _conversion_parity(model: Model, tags: PodTags) -> dg.AssetChecksDefinition:
    names = Names(model.name)

    @dg.asset_check(
        asset=names.asset("onnx_model"),
        name="conversion_parity",
        description="The graph answers as the trained model; a variant, within limits of its own.",
        blocking=True,
        partitions_def=names.partitions,
        op_tags=tags.step("conversion_parity"),
    )
    def conversion_parity(
        context: dg.AssetCheckExecutionContext,
        registry: Registry,
        serving: Serving,
        steps: dg.ResourceParam[Steps],
    ) -> dg.AssetCheckResult:
        with one_sentence():
            label = Label.parse(context.partition_key)
            return steps.run(context, verify_step(registry, serving, model, label))

    return conversion_parity


def _verdict(passed: bool) -> str:
    return "passed" if passed else "failed"


def _smoke_test(model: Model, tags: PodTags) -> dg.AssetChecksDefinition:
    names = Names(model.name)

    @dg.asset_check(
        asset=names.asset("staging_deployment"),
        name="smoke_test",
        description="Golden requests to staging through the gateway, within the tolerance.",
        blocking=True,
        partitions_def=names.partitions,
        op_tags=tags.step("smoke_test"),
    )
    def check(
        context: dg.AssetCheckExecutionContext, registry: Registry, serving: Serving
    ) -> dg.AssetCheckResult:
        with one_sentence():
            label = Label.parse(context.partition_key)
            release = serving.release(model.name, str(label))
            http = ask_golden(serving, release, "staging")
            folder = serving.folder(model.name, str(label))
            folder.write_certificate(msgspec.structs.replace(release.certificate, http=http))
            version = registry.get(model.registered_model, label.number)
            stored = registry.log_files(version, folder.path, ["certificate.json"], label.folder)
            tags = {"smoke_test": _verdict(http.passed)}
            if stored:
                tags["certificate"] = f"{stored}/certificate.json"
            registry.tag(model.registered_model, label.number, label.tags(**tags))
        return dg.AssetCheckResult(passed=http.passed, metadata=http_metadata(http))

    return check
