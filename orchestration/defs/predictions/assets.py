"""The compacted prediction log and labels, as assets."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from deploy.predictions.areas import Area, label_area, prediction_area
from deploy.predictions.compaction import Compacted, compact_area
from orchestration.defs.lifecycle.metadata import table
from orchestration.resources.serving import Serving

GROUP = "predictions"
_SHOWN = 50


def prediction_assets() -> list[dg.AssetsDefinition]:
    """`predictions/compacted` and `labels/compacted`."""

    @dg.asset(
        key=dg.AssetKey(["predictions", "compacted"]),
        group_name=GROUP,
        kinds={"parquet"},
        description="The prediction log as Parquet: complete segments, each record exactly once.",
    )
    def predictions_compacted(
        context: dg.AssetExecutionContext, serving: Serving
    ) -> dg.MaterializeResult[Any]:
        settings = serving.configuration.platform.predictions
        return _compacted(context, prediction_area(serving.paths, settings))

    @dg.asset(
        key=dg.AssetKey(["labels", "compacted"]),
        group_name=GROUP,
        kinds={"parquet"},
        description="The labels as Parquet: what turned out to be true of the answers.",
    )
    def labels_compacted(
        context: dg.AssetExecutionContext, serving: Serving
    ) -> dg.MaterializeResult[Any]:
        return _compacted(context, label_area(serving.paths))

    return [predictions_compacted, labels_compacted]


def _compacted(context: dg.AssetExecutionContext, area: Area) -> dg.MaterializeResult[Any]:
    done = compact_area(area, datetime.now(UTC))
    for segment, reason in done.damaged:
        context.log.warning(f"{segment} is in {area.quarantine} now: {reason}")
    return dg.MaterializeResult(metadata=_metadata(area, done))


def _metadata(area: Area, done: Compacted) -> dict[str, Any]:
    found: dict[str, Any] = {
        "dagster/row_count": done.rows,
        "segments": done.segments,
        "files": len(done.files),
        "bytes": done.bytes,
        "seconds": round(done.seconds, 3),
        "rows_per_second": round(done.rows_per_second),
        "path": area.url or dg.MetadataValue.path(str(area.root / "parquet")),
    }
    if done.files:
        found["partitions"] = table(_partitions(done))
    if done.damaged:
        rows = [{"segment": name, "reason": reason} for name, reason in done.damaged[:_SHOWN]]
        found["damaged"] = table(rows)
        found["quarantine"] = dg.MetadataValue.path(str(area.quarantine))
    return found


def _partitions(done: Compacted) -> list[dict[str, Any]]:
    counted = Counter(tuple(Path(file).parts[-4:-1]) for file in done.files)
    return [
        {name: value for name, _, value in (part.partition("=") for part in parts)} | {"files": n}
        for parts, n in sorted(counted.items())[:_SHOWN]
    ]
