"""Export and verification of one version."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from orchestration.defs.lifecycle.metadata import contract_metadata, parity_metadata
from orchestration.defs.lifecycle.version import Version
from orchestration.labels import Label
from orchestration.resources.registry import Registry
from orchestration.resources.serving import Serving
from orchestration.steps.base import Step
from serving_config.schema import Model

EXPORTED_FILES = ["model.onnx", "contract.json"]


def export_step(
    registry: Registry, serving: Serving, model: Model, label: Label, run_id: str
) -> Step[dg.MaterializeResult[None]]:
    """Writes the graph and the contract of what the label names."""

    def read(
        invocation: dg.PipesClientCompletedInvocation, _: Mapping[str, Any]
    ) -> dg.MaterializeResult[None]:
        return invocation.get_materialize_result(implicit_materialization=False)

    return Step(
        "export",
        (model.name, str(label)),
        lambda: exported(registry, serving, model, label, run_id),
        read,
    )


def exported(
    registry: Registry, serving: Serving, model: Model, label: Label, run_id: str
) -> dg.MaterializeResult[None]:
    """The work of `export_step`. run_id: of Dagster, for the tags in MLflow."""
    with tempfile.TemporaryDirectory() as scratch:
        version = Version.load(registry, serving, model, label, Path(scratch))
        graph = version.export()
        version.folder.write_export(graph.model, graph.contract)
        stored = version.store(
            EXPORTED_FILES,
            onnx_sha256=graph.contract.onnx_sha256,
            dagster_run=f"{serving.dagster_url}/runs/{run_id}",
        )
    return dg.MaterializeResult(
        metadata=contract_metadata(graph.contract)
        | {
            "path": dg.MetadataValue.path(str(version.folder.onnx)),
            "size_bytes": len(graph.model),
            "stored_in_mlflow": stored or "no run to store it with",
        },
        data_version=dg.DataVersion(graph.contract.onnx_sha256),
    )


def verify_step(
    registry: Registry, serving: Serving, model: Model, label: Label
) -> Step[dg.AssetCheckResult]:
    """Writes the certificate of what was exported."""

    def read(
        invocation: dg.PipesClientCompletedInvocation, said: Mapping[str, Any]
    ) -> dg.AssetCheckResult:
        # Pipes carries no description of a check.
        return invocation.get_asset_check_result()._replace(description=said["description"])

    return Step(
        "verify",
        (model.name, str(label)),
        lambda: verified(registry, serving, model, label),
        read,
    )


def verified(
    registry: Registry, serving: Serving, model: Model, label: Label
) -> dg.AssetCheckResult:
    """The work of `verify_step`."""
    from orchestration.verify import advice

    with tempfile.TemporaryDirectory() as scratch:
        version = Version.load(registry, serving, model, label, Path(scratch))
        certificate = version.folder.write_parity(version.verify())
        passed = certificate.parity_passed
        version.store(["certificate.json"], conversion_parity="passed" if passed else "failed")
    said = advice(certificate)
    return dg.AssetCheckResult(
        passed=passed,
        metadata=parity_metadata(certificate, said),
        description=None if passed else said,
    )
