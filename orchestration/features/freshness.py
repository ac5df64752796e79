"""Whether what the online store has is recent enough."""

from datetime import datetime

from deploy.findings import Finding
from deploy.home import Home
from orchestration.features.store import described_view, read_description
from orchestration.features.watermarks import Watermark, read_watermark
from orchestration.features.windows import rfc3339
from serving_config.features import FeatureView
from serving_config.schema import Configuration


def freshness(
    name: str, settings: FeatureView, watermark: Watermark | None, now: datetime
) -> Finding:
    """Whether the view's values are as recent as `fresh_within_hours` asks."""
    limit = settings.fresh_within_hours
    if watermark is None:
        reason = f"{name} was never materialized as it is defined now: `slipway materialize {name}`"
        return unknown(name, reason, now)
    age = (now - watermark.until).total_seconds()
    stale = age > limit * 3600
    return Finding(
        kind="features",
        environment="",
        subject=name,
        status="failed" if stale else "passed",
        at=rfc3339(now),
        window=f"up to {rfc3339(watermark.until)}",
        valid_seconds=limit * 3600,
        values={"age_seconds": age, "limit_seconds": limit * 3600},
        summary=f"{name} has what its sources had {age / 3600:.1f} h ago "
        f"(at most {limit:g} h are allowed)",
    )


def unknown(name: str, reason: str, now: datetime) -> Finding:
    """Nobody knows how recent the view's values are, which is as bad as stale ones."""
    return Finding(
        kind="features",
        environment="",
        subject=name,
        status="failed",
        at=rfc3339(now),
        summary=reason,
    )


def view_freshness(home: Home, configuration: Configuration, name: str, now: datetime) -> Finding:
    """The same of a configured view, as its watermark is now."""
    features = configuration.features
    view = described_view(read_description(home), name)
    mark = read_watermark(home, view, features.store)
    return freshness(name, features.views[name], mark, now)
