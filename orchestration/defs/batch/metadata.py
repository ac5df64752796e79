"""What Dagster's UI shows of a batch job's result."""

from typing import Any

import dagster as dg

from orchestration.batch.documents import Manifest
from orchestration.batch.plot import distribution_svg
from orchestration.defs.lifecycle.metadata import table
from orchestration.svg import markdown_image

_SHOWN = 100


def batch_metadata(manifest: Manifest) -> dict[str, Any]:
    """Counts, rate, reasons of the rejects, lineage, and how the predictions are distributed."""
    model, files = manifest.model, (*manifest.files, *manifest.rejects_files)
    seconds = manifest.seconds
    found: dict[str, Any] = {
        "dagster/row_count": manifest.rows_out,
        "rows_in": manifest.rows_in,
        "rejects": manifest.rejects,
        "seconds": round(seconds, 3),
        "rows_per_second": round(manifest.rows_in / seconds) if seconds else 0,
        "resumed_parts": manifest.resumed_parts,
        "engine": manifest.engine,
        "files": len(files),
        "bytes": sum(file.size for file in files),
        "input": manifest.input,
        "output": _place(manifest.output),
        "manifest": _place(f"{manifest.output.rstrip('/')}/_manifest.json"),
        "model_version": model.version,
        "onnx_sha256": model.onnx_sha256,
        "bento": model.bento,
    }
    if manifest.reasons:
        common = sorted(manifest.reasons.items(), key=lambda item: -item[1])[:_SHOWN]
        found["reasons"] = table([{"rows": rows, "reason": reason} for reason, rows in common])
    if manifest.rows_out:
        image = markdown_image("predictions", distribution_svg(manifest.distribution))
        found["plot"] = dg.MetadataValue.md(image)
    if labels := manifest.distribution.labels:
        found["predictions"] = table([{"label": k, "rows": n} for k, n in labels.items()])
    return found


def _place(location: str) -> Any:
    return location if "://" in location else dg.MetadataValue.path(location)
