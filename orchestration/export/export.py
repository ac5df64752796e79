"""A native model to ONNX bytes and the contract that goes with them."""

import hashlib
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from bentos.model_server.contract import Contract, FeatureSource, GraphInput, Outputs
from bentos.model_server.session import ModelLoadError, ModelSession
from orchestration.export.contract import contract_inputs, with_example
from orchestration.export.data import Requirements, open_table
from orchestration.export.errors import ExportError, UnservableModel
from orchestration.export.graph import Graph, Tensor
from orchestration.export.native import NativeModel
from orchestration.export.registry import Scores
from serving_config.schema import Model


@dataclass(frozen=True)
class Exported:
    """model: the bytes of `model.onnx`; contract: what belongs to exactly those bytes."""

    model: bytes
    contract: Contract


@dataclass(frozen=True)
class Converted:
    """A graph with what it takes and answers, before the contract is complete."""

    model: bytes
    graph_inputs: tuple[GraphInput, ...]
    outputs: Outputs
    requirements: Requirements


def export(
    native: NativeModel,
    config: Model,
    version: int,
    *,
    run_id: str | None = None,
    model_id: str | None = None,
    feature_source: FeatureSource | None = None,
) -> Exported:
    """The same model gives the same bytes, in any process.

    Raises UnservableModel where the model, its signature or the YAML's `inputs` do not allow it,
    ExportError where the graph does not run.
    """
    converted = convert(native)
    contract = Contract(
        model=config.name,
        version=version,
        run_id=run_id,
        model_id=model_id,
        onnx_sha256=hashlib.sha256(converted.model).hexdigest(),
        inputs=contract_inputs(native, converted.requirements, config.inputs),
        graph_inputs=converted.graph_inputs,
        outputs=converted.outputs,
        feature_source=feature_source,
        example={},
    )
    contract = with_example(native, contract)
    _try(converted.model, contract)
    return Exported(converted.model, contract)


def convert(native: NativeModel) -> Converted:
    """The graph alone. Raises UnservableModel."""
    if native.flavor == "onnx":
        from orchestration.export.onnx_native import adopt

        return adopt(native)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the fitted steps warn about being asked
            return _convert_estimator(native)
    except ExportError:
        raise
    except Exception as error:  # a step that is not fitted as its class promises
        raise ExportError(
            f"{type(native.model).__name__} could not be converted "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}); "
            "log the model as ONNX yourself (mlflow.onnx.log_model) or report the pipeline"
        ) from error


def _convert_estimator(native: NativeModel) -> Converted:
    from orchestration.export import boosters, lightgbm_models, pytorch  # noqa: F401  they register
    from orchestration.export.compose import estimate

    graph = Graph()
    kind, _ = native.kind, native.labels  # what is not served is refused before any work
    table, graph_inputs = open_table(_fed(native), graph)
    result = estimate(native.model, table, graph)
    if isinstance(result, Scores):
        outputs, named = _classification(native, result, graph)
    else:
        outputs, named = _regression(result, graph)
    if outputs.kind != kind:
        raise ExportError(f"a {kind} model was converted to a {outputs.kind}")
    return Converted(graph.build(named), graph_inputs, outputs, table.requirements)


def _fed(native: NativeModel) -> list[tuple[str, Any]]:
    """The columns the model was trained on, in its order; the signature may have more."""
    by_name = {field.name: field.dtype for field in native.signature.fields}
    expected = getattr(native.model, "n_features_in_", None)
    if isinstance(expected, int) and expected != len(native.columns):
        raise UnservableModel(
            f"the model was trained on {expected} columns, its signature has "
            f"{len(native.columns)}; log it again with the signature of the training data"
        )
    return [(name, by_name[name]) for name in native.columns]


def _classification(
    native: NativeModel, scores: Scores, graph: Graph
) -> tuple[Outputs, list[tuple[str, str, str, int | None]]]:
    labels = native.labels
    classes = np.asarray(labels, dtype=object if isinstance(labels[0], str) else None)
    dtype = {"i": "int64", "u": "int64", "b": "bool", "f": "float64", "O": "string"}[
        classes.dtype.kind
    ]
    table = graph.constant(classes if dtype == "string" else classes.astype(dtype))
    named: list[tuple[str, str, str, int | None]] = [
        (graph.node("Gather", [table, scores.index], axis=0), "label", dtype, None)
    ]
    if scores.probabilities is not None:
        p = scores.probabilities
        named.append((p.name, "probabilities", p.dtype, p.width))
    probabilities = None if scores.probabilities is None else "probabilities"
    return Outputs("classification", "label", probabilities, labels), named


def _regression(
    value: Tensor, graph: Graph
) -> tuple[Outputs, list[tuple[str, str, str, int | None]]]:
    flat = graph.node("Reshape", [value.name, graph.constant([-1], "int64")])
    return Outputs("regression", "value"), [(flat, "value", value.dtype, None)]


def _try(model: bytes, contract: Contract) -> None:
    """One row through the session that will serve it."""
    row = [contract.example[field.name] for field in contract.inputs]
    try:
        ModelSession(model, contract).predict([row])
    except ModelLoadError as error:
        raise ExportError(str(error)) from error
    except Exception as error:  # ONNX Runtime's errors have no common base
        reason = str(error).splitlines()[0]
        raise ExportError(
            f"ONNX Runtime cannot run the exported model on its example row: {reason}"
        ) from error
