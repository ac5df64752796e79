"""The lifecycle's assets for one model, partitioned by model version."""

import tempfile
from pathlib import Path

import dagster as dg

from deploy.versions import BuiltRelease
from orchestration.defs.lifecycle.deployments import production_deployment, staging_deployment
from orchestration.defs.lifecycle.failures import one_sentence
from orchestration.defs.lifecycle.metadata import registered_metadata
from orchestration.defs.lifecycle.names import Names
from orchestration.kubernetes.tags import LOCAL, PodTags
from orchestration.labels import Label
from orchestration.resources.registry import Registry
from orchestration.resources.serving import Serving
from orchestration.steps.base import Steps
from orchestration.steps.lifecycle import export_step
from serving_config.schema import Model


def lifecycle_assets(model: Model, tags: PodTags = LOCAL) -> list[dg.AssetsDefinition]:
    """registered_model → onnx_model → bento → staging_deployment → production_deployment."""
    return [
        _registered_model(model),
        _onnx_model(model, tags),
        _bento(model, tags),
        staging_deployment(model, tags),
        production_deployment(model, tags),
    ]


def _registered_model(model: Model) -> dg.AssetsDefinition:
    names = Names(model.name)

    @dg.asset(
        key=names.asset("registered_model"),
        group_name=names.identifier,
        partitions_def=names.partitions,
        kinds={"mlflow"},
        description="The model version as MLflow holds it: run, signature, metrics, data digest.",
    )
    def registered_model(
        context: dg.AssetExecutionContext, registry: Registry
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        with one_sentence(), tempfile.TemporaryDirectory() as folder:
            label = Label.configured(context.partition_key, model)
            version = registry.get(model.registered_model, label.number)
            return dg.MaterializeResult(
                metadata=registered_metadata(registry, version, Path(folder))
            )

    return registered_model


def _onnx_model(model: Model, tags: PodTags) -> dg.AssetsDefinition:
    names = Names(model.name)

    @dg.asset(
        key=names.asset("onnx_model"),
        group_name=names.identifier,
        partitions_def=names.partitions,
        kinds={"onnx"},
        deps=[names.asset("registered_model")],
        op_tags=tags.step("onnx_model"),
        description="The model as an ONNX graph, with the contract of what it takes and answers.",
    )
    def onnx_model(
        context: dg.AssetExecutionContext,
        registry: Registry,
        serving: Serving,
        steps: dg.ResourceParam[Steps],
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        with one_sentence():
            label = Label.configured(context.partition_key, model)
            step = export_step(registry, serving, model, label, context.run.run_id)
            return steps.run(context, step)

    return onnx_model


def _bento(model: Model, tags: PodTags) -> dg.AssetsDefinition:
    names = Names(model.name)

    @dg.asset(
        key=names.asset("bento"),
        group_name=names.identifier,
        partitions_def=names.partitions,
        kinds={"bentoml"},
        deps=[names.asset("onnx_model")],
        op_tags=tags.step("bento"),
        description="The Bento: model server, graph, contract and certificate, built reproducibly.",
    )
    def bento(
        context: dg.AssetExecutionContext, registry: Registry, serving: Serving
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        from orchestration.build_bento import build_bento

        with one_sentence():
            label = Label.parse(context.partition_key)
            folder = serving.folder(model.name, str(label))
            folder.certificate().require_parity(folder.contract(), folder.onnx_sha256())
            built = build_bento(
                folder.fetched(), model.serving, serving.paths.bentoml, model.prediction_log
            )
            folder.write_bento(BuiltRelease(built.tag, built.digest))
            registry.tag(model.registered_model, label.number, label.tags(bento=built.tag))
        return dg.MaterializeResult(
            metadata={
                "tag": built.tag,
                "digest": built.digest,
                "path": dg.MetadataValue.path(str(built.path)),
                "size_bytes": built.size_bytes,
                "serve_it_alone": f"BENTOML_HOME={serving.paths.bentoml} bentoml serve {built.tag}",
            },
            data_version=dg.DataVersion(built.digest),
        )

    return bento
