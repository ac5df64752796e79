"""What Dagster's UI shows beside each asset and check."""

from pathlib import Path
from typing import Any

import dagster as dg

from bentos.model_server.certificate import Certificate, Comparison, HttpParity
from bentos.model_server.contract import Contract
from bentos.model_server.quantization import Quantization
from orchestration.resources.registry import Registry, RegistryError


def table(rows: list[dict[str, Any]]) -> dg.TableMetadataValue:
    """A table of strings; Dagster's cells take no lists."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return dg.MetadataValue.table(
        records=[dg.TableRecord({name: _cell(row.get(name)) for name in names}) for row in rows],
        schema=dg.TableSchema([dg.TableColumn(name) for name in names]),
    )


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def registered_metadata(registry: Registry, version: Any, folder: Path) -> dict[str, Any]:
    """Version, run, signature, input example, metrics, training data digests.

    Raises RegistryError for a version without a signature: nothing can be served from it.
    """
    from mlflow.models import Model as LoggedModel

    name, number = version.name, int(version.version)
    source = registry.download(name, number, folder)
    logged = LoggedModel.load(str(source))
    if logged.signature is None or logged.signature.inputs is None:
        raise RegistryError(
            f"{name} version {number} has no signature, so its inputs are not known: log it again "
            "with log_model(..., signature=mlflow.models.infer_signature(X, model.predict(X)))"
        )
    inputs = [
        {"name": field["name"], "type": field["type"], "required": field.get("required", True)}
        if "name" in field
        else {"name": "(tensor)", "type": str(field), "required": True}
        for field in logged.signature.inputs.to_dict()
    ]
    found: dict[str, Any] = {
        "version": dg.MetadataValue.url(registry.version_url(name, number)),
        "flavours": ", ".join(sorted(logged.flavors)),
        "signature": table(inputs),
        "input_example": _example(logged, source),
    }
    return found | (_run_metadata(registry, version.run_id) if version.run_id else {})


def _example(logged: Any, source: Path) -> Any:
    example = logged.load_input_example(str(source))
    if example is None:
        return "none was logged"
    text = str(example.to_dict("records")[:3] if hasattr(example, "to_dict") else example[:3])
    return dg.MetadataValue.text(text[:2000])


def _run_metadata(registry: Registry, run_id: str) -> dict[str, Any]:
    run = registry.run(run_id)
    datasets = [
        {"name": item.dataset.name, "digest": item.dataset.digest, "source": item.dataset.source}
        for item in run.inputs.dataset_inputs
    ]
    return {
        "run": dg.MetadataValue.url(registry.run_url(run.info.experiment_id, run_id)),
        "metrics": table([{"metric": k, "value": v} for k, v in sorted(run.data.metrics.items())]),
        "training_data": table(datasets) if datasets else "the run logged no dataset",
    }


def contract_metadata(contract: Contract) -> dict[str, Any]:
    """The contract's inputs and outputs, and the graph's digest."""
    inputs = [
        {
            "name": field.name,
            "dtype": field.dtype,
            "required": field.required,
            "minimum": field.minimum,
            "maximum": field.maximum,
            "categories": field.categories,
        }
        for field in contract.inputs
    ]
    return {
        "onnx_sha256": contract.onnx_sha256,
        "inputs": table(inputs),
        "graph_inputs": table(
            [
                {"name": g.name, "dtype": g.dtype, "columns": ", ".join(g.columns)}
                for g in contract.graph_inputs
            ]
        ),
        "kind": contract.outputs.kind,
        "labels": ", ".join(map(str, contract.outputs.labels)) or "none: a regression",
        "example": dg.MetadataValue.json(contract.example),
    }


def parity_metadata(certificate: Certificate, advice: str) -> dict[str, Any]:
    """The comparisons, the worst rows, and what to do about them."""
    parity = certificate.parity

    def shown(comparison: Comparison) -> dict[str, Any]:
        return {
            "rows of kind": comparison.kind,
            "rows": comparison.rows,
            "largest difference": f"{comparison.max_abs_diff:.3g}",
            "over tolerance": comparison.over_tolerance,
            "label flips": comparison.label_flips,
            "ties": comparison.ties,
            "made up": comparison.made_up,
            "excluded": comparison.excluded,
        }

    found: dict[str, Any] = {
        "verdict": advice,
        "comparisons": table([shown(comparison) for comparison in parity.comparisons]),
        "tolerance": parity.limits.tolerance,
        "max_label_flips": parity.limits.max_label_flips,
        "largest_difference": max((c.max_abs_diff for c in parity.comparisons), default=0.0),
        "rows": sum(c.rows for c in parity.comparisons),
        "onnx_sha256": certificate.onnx_sha256,
        "certificate_sha256": certificate.digest(),
        "libraries": dg.MetadataValue.json(certificate.libraries),
    }
    if certificate.quantization is not None:
        found |= quantization_metadata(certificate.quantization)
    if parity.worst:
        found["worst_rows"] = table(
            [
                {
                    "kind": row.kind,
                    "difference": f"{row.difference:.3g}",
                    "trained model": row.expected,
                    "ONNX": row.actual,
                    "trained probabilities": row.expected_probabilities,
                    "ONNX probabilities": row.actual_probabilities,
                    "features": row.features,
                }
                for row in parity.worst
            ]
        )
    return found


def quantization_metadata(found: Quantization) -> dict[str, Any]:
    """What an int8 variant loses and gains."""
    return {
        "method": found.method,
        "quantized_operators": table(
            [{"operator": name, "count": count} for name, count in found.quantized.items()]
        ),
        "variant_label_flips": f"{found.label_flips} of {found.rows} rows",
        "auc_loss": found.auc_loss,
        "relative_error": found.relative_error,
        "batch_difference": found.batch_difference,
        "size_ratio": found.size_ratio,
        "speedup": found.speedup,
        "rows_per_second": found.rows_per_second,
        "errors_by_method": dg.MetadataValue.json(found.errors),
        "base_onnx_sha256": found.base_sha256,
    }


def http_metadata(http: HttpParity) -> dict[str, Any]:
    """The smoke test's figures."""
    return {
        "url": dg.MetadataValue.url(http.url),
        "golden_requests": http.single,
        "single_mismatches": http.single_mismatches,
        "batch_mismatches": http.batch_mismatches,
        "bad_inputs": http.bad_inputs,
        "bad_inputs_refused": http.bad_inputs_refused,
        "p50_ms": http.p50_ms,
        "p99_ms": http.p99_ms,
    }
