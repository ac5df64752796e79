"""What is kept of every answer, and for how long."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from serving_config.alerts import Webhook
from serving_config.base import Seconds, Settings

Columns = Annotated[tuple[str, ...], Field(strict=False)]


class PredictionLog(Settings):
    """The prediction log of one environment's model servers."""

    enabled: bool = True
    """Whether answers are logged at all."""
    durability: Literal["best_effort", "durable"] = "best_effort"
    """`best_effort`: written within `flush_seconds`, dropped and counted where that is not
    possible. `durable`: an answer is sent once its record is on the disk (fsync)."""
    flush_seconds: Seconds = 1
    """How long a record may wait in memory."""
    max_pending_rows: Annotated[int, Field(ge=100, le=10_000_000)] = 50_000
    """Rows that may wait in one worker; what comes beyond that is dropped and counted."""
    segment_bytes: Annotated[int, Field(ge=1 << 16, le=1 << 30)] = 64 << 20
    """A segment that is larger is closed, for compaction."""
    segment_seconds: Seconds = 60
    """A segment that is older is closed, for compaction."""
    cloud_events_url: Webhook | None = Field(default=None, repr=False)
    """Gets every inference as CloudEvents. `SLIPWAY_CLOUD_EVENTS_URL`."""


class LoggedColumns(Settings):
    """What of a model's inputs may be kept."""

    never: Columns = ()
    """Inputs and entity keys that are not logged."""
    hashed: Columns = ()
    """Inputs and entity keys of which a keyed hash (HMAC-SHA-256, hex) is logged."""

    @model_validator(mode="after")
    def _one_or_the_other(self) -> "LoggedColumns":
        if both := sorted(set(self.never) & set(self.hashed)):
            raise ValueError(f"{both[0]!r} is in never and in hashed: leave it in one of them")
        return self


class Predictions(Settings):
    """Where the compacted log lies, and for how long."""

    url: Annotated[str, Field(pattern=r"^[a-z][a-z0-9+.-]*://")] | None = Field(
        default=None, repr=False
    )
    """An fsspec URL for the Parquet files (`s3://bucket/predictions`); a folder of the home where
    it is left out. `SLIPWAY_PREDICTIONS_URL`."""
    retention_days: Annotated[int, Field(ge=1, le=3650)] = 90
    """Days after which compacted predictions and labels are removed."""
