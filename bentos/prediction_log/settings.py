"""What a model server is told about its prediction log."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class PredictionLogSettings:
    """folder: of all predictions, None where they are kept nowhere; environment: where the server
    runs; the rest as in `serving_config.predictions.PredictionLog`.

    pii_key: the file with the key of hashed columns.
    """

    folder: Path | None = None
    environment: str = "default"
    durable: bool = False
    flush_seconds: float = 1.0
    max_pending_rows: int = 50_000
    segment_bytes: int = 64 << 20
    segment_seconds: float = 60.0
    cloud_events_url: str | None = field(default=None, repr=False)
    pii_key: Path | None = None
