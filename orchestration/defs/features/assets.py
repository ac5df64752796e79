"""One asset for each feature view that the settings name, and the examples' sources."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from deploy.findings import write_finding
from orchestration.defs.features.names import (
    EXAMPLE_SOURCES,
    GROUP,
    has_examples,
    pool,
    view_key,
)
from orchestration.defs.features.partitions import covered, view_partitions
from orchestration.defs.lifecycle.failures import one_sentence
from orchestration.features.freshness import view_freshness
from orchestration.features.materialization import (
    Materialized,
    into_online_store,
    materialize_view,
)
from orchestration.features.windows import rfc3339
from orchestration.resources.serving import Serving
from serving_config.features import FeatureView
from serving_config.schema import Configuration

Result = dg.MaterializeResult[None]


class Materialization(dg.Config):
    """Another span than the partition's window: RFC 3339, with a time zone."""

    since: str | None = None
    until: str | None = None


def feature_assets(configuration: Configuration) -> list[dg.AssetsDefinition]:
    """`features/<view>` by view; nothing where no view is configured."""
    views = configuration.features.views
    if not views:
        return []
    examples = has_examples(configuration)
    now = datetime.now(UTC)
    sources = [_example_sources()] if examples else []
    return [
        *sources,
        *(_view(name, view, now, [EXAMPLE_SOURCES] * examples) for name, view in views.items()),
    ]


def _view(
    name: str, settings: FeatureView, now: datetime, deps: Iterable[dg.AssetKey]
) -> dg.AssetsDefinition:
    partitions = view_partitions(settings.every, now)

    @dg.asset(
        key=view_key(name),
        group_name=GROUP,
        deps=list(deps),
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        freshness_policy=dg.FreshnessPolicy.time_window(
            fail_window=timedelta(hours=settings.fresh_within_hours)
        ),
        pool=pool(name),
        kinds={"feast"},
        description="The feature view in the online store: its windows, none left out.",
    )
    def view(
        context: dg.AssetExecutionContext, config: Materialization, serving: Serving
    ) -> Result:
        start, end = _span(context, config)
        home, configuration = serving.paths, serving.configuration
        with one_sentence():
            features = configuration.features
            write = into_online_store(home, features)
            done = materialize_view(home, features, name, start, end, write)
            finding = write_finding(
                home, view_freshness(home, configuration, name, datetime.now(UTC))
            )
        own = set(context.partition_keys)
        first = partitions.start
        keys = covered(settings.every, first, done.span.start, done.span.end, own)
        for key in keys:
            context.log_event(dg.AssetMaterialization(view_key(name), partition=key))
        return dg.MaterializeResult(metadata=_metadata(done, len(keys)) | {"fresh": finding.status})

    return view


def _span(context: dg.AssetExecutionContext, config: Materialization) -> tuple[datetime, datetime]:
    window = context.partition_time_window
    start, end = parse_time(config.since), parse_time(config.until)
    start, end = start or min(window.start, end or window.start), end or window.end
    if start >= end:
        raise dg.Failure(
            f"nothing lies between {rfc3339(start)} and {rfc3339(end)}", allow_retries=False
        )
    return start, end


def parse_time(text: str | None) -> datetime | None:
    """A moment with a time zone; dg.Failure for any other text."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise dg.Failure(f"{text!r} is no time: {error}", allow_retries=False) from error
    if moment.tzinfo is None:
        raise dg.Failure(f"{text!r} has no time zone: add Z for UTC", allow_retries=False)
    return moment


def _metadata(done: Materialized, caught_up: int) -> dict[str, Any]:
    return {
        "from": rfc3339(done.span.start),
        "to": rfc3339(done.span.end),
        "watermark": rfc3339(done.span.until),
        "windows_caught_up": caught_up,
        "seconds": done.seconds,
        **done.counts,
    }


def _example_sources() -> dg.AssetsDefinition:
    @dg.asset(
        key=EXAMPLE_SOURCES,
        group_name=GROUP,
        pool="features_example_sources",
        kinds={"parquet"},
        description="The examples' data up to now, made up: as a warehouse would have it.",
    )
    def example_sources(serving: Serving) -> Result:
        from orchestration.examples.feature_data import write_sources

        until, folder = datetime.now(UTC), serving.paths.features / "sources"
        with one_sentence():
            write_sources(folder, until=until)
        return dg.MaterializeResult(
            metadata={"until": rfc3339(until), "path": dg.MetadataValue.path(str(folder))}
        )

    return example_sources
