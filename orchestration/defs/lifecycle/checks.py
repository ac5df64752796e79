"""The lifecycle's asset checks. They write the certificate that deployments demand."""

import tempfile
from pathlib import Path

import dagster as dg
import msgspec

from orchestration.defs.lifecycle.failures import one_sentence
from orchestration.defs.lifecycle.health import ask_golden, release_health
from orchestration.defs.lifecycle.metadata import http_metadata, parity_metadata
from orchestration.defs.lifecycle.names import Names
from orchestration.defs.lifecycle.version import Version
from orchestration.labels import Label
from orchestration.resources.registry import Registry
from orchestration.resources.serving import Serving
from serving_config.schema import Model


def lifecycle_checks(model: Model) -> list[dg.AssetChecksDefinition]:
    """conversion_parity, smoke_test, release_health."""
    return [
        _conversion_parity(model),
        _smoke_test(model),
        release_health(model),
    ]


def _conversion_parity(model: Model) -> dg.AssetChecksDefinition:
    names = Names(model.name)

    @dg.asset_check(
        asset=names.asset("onnx_model"),
        name="conversion_parity",
        description="The graph answers as the trained model; a variant, within limits of its own.",
        blocking=True,
        partitions_def=names.partitions,
    )
    def conversion_parity(
        context: dg.AssetCheckExecutionContext, registry: Registry, serving: Serving
    ) -> dg.AssetCheckResult:
        from orchestration.verify import advice

        with one_sentence(), tempfile.TemporaryDirectory() as scratch:
            label = Label.parse(context.partition_key)
            version = Version.load(registry, serving, model, label, Path(scratch))
            certificate = version.folder.write_parity(version.verify())
            verdict = _verdict(certificate.parity_passed)
            version.store(["certificate.json"], conversion_parity=verdict)
        said = advice(certificate)
        return dg.AssetCheckResult(
            passed=certificate.parity_passed,
            metadata=parity_metadata(certificate, said),
            description=None if certificate.parity_passed else said,
        )

    return conversion_parity


def _verdict(passed: bool) -> str:
    return "passed" if passed else "failed"


def _smoke_test(model: Model) -> dg.AssetChecksDefinition:
    names = Names(model.name)

    @dg.asset_check(
        asset=names.asset("staging_deployment"),
        name="smoke_test",
        description="Golden requests to staging through the gateway, within the tolerance.",
        blocking=True,
        partitions_def=names.partitions,
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
