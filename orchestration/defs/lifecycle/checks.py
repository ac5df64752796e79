"""The lifecycle's asset checks. They write the certificate that deployments demand."""

import tempfile
from pathlib import Path

import dagster as dg
import msgspec

from orchestration.defs.lifecycle.failures import one_sentence
from orchestration.defs.lifecycle.health import ask_golden, release_health
from orchestration.defs.lifecycle.metadata import http_metadata, parity_metadata
from orchestration.defs.lifecycle.names import Names
from orchestration.monitoring.reference import run_reference
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
        description="The ONNX graph answers as the trained model does, also beside thresholds.",
        blocking=True,
        partitions_def=names.partitions,
    )
    def conversion_parity(
        context: dg.AssetCheckExecutionContext, registry: Registry, serving: Serving
    ) -> dg.AssetCheckResult:
        from bentos.model_server.certificate import Limits
        from bentos.model_server.session import ModelSession
        from orchestration.export import load_native
        from orchestration.verify import advice, verify

        number = int(context.partition_key)
        folder = serving.folder(model.name, number)
        with one_sentence(), tempfile.TemporaryDirectory() as scratch:
            version = registry.get(model.registered_model, number)
            source = registry.download(model.registered_model, number, Path(scratch) / "model")
            native = load_native(source, model.trusted_types)
            session = ModelSession(folder.onnx_bytes(), folder.contract())
            reference = run_reference(registry, version.run_id, Path(scratch) / "reference")
            limits = Limits(**model.verification.model_dump())
            certificate = folder.write_parity(verify(native, session, reference, limits))
            registry.log_files(version, folder.path, ["certificate.json"])
            registry.tag(
                model.registered_model,
                number,
                {"slipway.conversion_parity": _verdict(certificate.parity.passed)},
            )
        return dg.AssetCheckResult(
            passed=certificate.parity.passed,
            metadata=parity_metadata(certificate, advice(certificate)),
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
        number = int(context.partition_key)
        with one_sentence():
            release = serving.release(model.name, number)
            http = ask_golden(serving, release, "staging")
            folder = serving.folder(model.name, number)
            folder.write_certificate(msgspec.structs.replace(release.certificate, http=http))
            version = registry.get(model.registered_model, number)
            stored = registry.log_files(version, folder.path, ["certificate.json"])
            tags = {"slipway.smoke_test": _verdict(http.passed)}
            if stored:
                tags["slipway.certificate"] = f"{stored}/certificate.json"
            registry.tag(model.registered_model, number, tags)
        return dg.AssetCheckResult(passed=http.passed, metadata=http_metadata(http))

    return check
