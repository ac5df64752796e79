"""What the platform tells when a limit is passed, and whom."""

from typing import Annotated

from pydantic import Field

from serving_config.base import Seconds, Settings
from serving_config.release import Share

Webhook = Annotated[str, Field(pattern=r"^https?://\S+$")]


class Alerts(Settings):
    """Limits beside each environment's `release.health`, and where alerts are sent."""

    window_seconds: Annotated[float, Field(ge=5, le=3600, allow_inf_nan=False)] = 60
    """Rates and percentiles are taken over that time."""
    for_seconds: Seconds = 15
    """A limit has to be passed that long before the alert fires."""
    min_requests: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    """With fewer requests in the window no rate is judged."""
    max_shed_rate: Share = 0.01
    """Share of requests refused because a server was full."""
    schedule_silence_factor: Annotated[float, Field(ge=1, le=100, allow_inf_nan=False)] = 2
    """A schedule is overdue when its last good run is so many of its intervals ago."""
    webhook_url: Webhook | None = Field(default=None, repr=False)
    """Gets Alertmanager's JSON on firing and resolving. `SLIPWAY_ALERT_WEBHOOK_URL`."""
    slack_webhook_url: Webhook | None = Field(default=None, repr=False)
    """Gets a message in Slack's format on firing and resolving. `SLIPWAY_SLACK_WEBHOOK_URL`."""
