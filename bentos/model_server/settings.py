"""What the environment says about one model server.

Read in BentoML's master as well, so nothing here imports ONNX Runtime: a value that no worker
could read has to stop the master, which would start workers for ever.
"""

import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bentos.model_server.http_client import require_url
from bentos.prediction_log.settings import PredictionLogSettings

SOURCE_ROOT = Path(__file__).resolve().parents[2]

Execution = Literal["auto", "inline", "thread"]


@dataclass(frozen=True)
class Settings:
    """bento: the tag being served, or `unpacked`.

    threads: intra-op threads of ONNX Runtime; drain_seconds: between SIGTERM and the end of
    listening; execution: where batches are computed, see executors; keys, keys_required: see Keys;
    cache_url: of a Redis, it may hold a password; features_url, features_timeout, features_key: of
    the feature transformer, the seconds to wait for it, the file with the key that it demands;
    prediction_log: None where answers are not kept.
    """

    model_folder: Path
    bento: str = "unpacked"
    threads: int = 1
    drain_seconds: float = 0.5
    access_log: bool = False
    execution: Execution = "auto"
    keys: Path | None = None
    keys_required: bool = False
    cache_url: str | None = field(default=None, repr=False)
    features_url: str | None = None
    features_timeout: float = 2
    features_key: Path | None = None
    prediction_log: PredictionLogSettings | None = None


def _number(variable: str, default: str, least: float, most: float = 3600) -> float:
    text = os.environ.get(variable) or default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise ValueError(f"{variable} must be a number from {least:g} to {most:.15g}, is {text!r}")
    return value


def workers() -> int:
    """Worker processes."""
    return int(_number("SLIPWAY_WORKERS", "1", least=1))


def _execution() -> Execution:
    match os.environ.get("SLIPWAY_EXECUTION") or "auto":
        case "auto" | "inline" | "thread" as known:
            return known
        case other:
            raise ValueError(f"SLIPWAY_EXECUTION must be auto, inline or thread, is {other!r}")


def _absolute(variable: str) -> Path | None:
    text = os.environ.get(variable)
    path = Path(text) if text else None
    # Workers run in the Bento's folder, where a relative path means something else.
    if path is not None and not path.is_absolute():
        raise ValueError(f"{variable} must be an absolute path, is {text!r}")
    return path


def _features_url() -> str | None:
    url = os.environ.get("SLIPWAY_FEATURES_URL") or None
    if url is not None:
        try:
            require_url(url)
        except ValueError as error:
            raise ValueError(f"SLIPWAY_FEATURES_URL: {error}") from None
    return url


def _prediction_log() -> PredictionLogSettings | None:
    folder = _absolute("SLIPWAY_PREDICTION_LOG")
    url = os.environ.get("SLIPWAY_CLOUD_EVENTS_URL") or None
    if folder is None and url is None:
        return None
    if url is not None and not re.fullmatch(r"https?://[^/\s]+\S*", url):
        raise ValueError("SLIPWAY_CLOUD_EVENTS_URL must be an http:// or https:// URL")
    environment = os.environ.get("SLIPWAY_ENVIRONMENT") or "default"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", environment):
        raise ValueError(f"SLIPWAY_ENVIRONMENT must be letters, digits and dashes: {environment!r}")
    durability = os.environ.get("SLIPWAY_PREDICTION_DURABILITY") or "best_effort"
    if durability not in ("best_effort", "durable"):
        raise ValueError(
            f"SLIPWAY_PREDICTION_DURABILITY must be best_effort or durable, is {durability!r}"
        )
    name = "SLIPWAY_PREDICTION_"
    return PredictionLogSettings(
        folder=folder,
        environment=environment,
        durable=durability == "durable",
        flush_seconds=_number(f"{name}FLUSH_SECONDS", "1", least=1e-6),
        max_pending_rows=int(_number(f"{name}MAX_PENDING", "50000", least=1, most=1e7)),
        segment_bytes=int(_number(f"{name}SEGMENT_BYTES", str(64 << 20), least=1, most=1 << 30)),
        segment_seconds=_number(f"{name}SEGMENT_SECONDS", "60", least=1e-6, most=86_400),
        cloud_events_url=url,
        pii_key=_absolute("SLIPWAY_PII_KEY"),
    )


def from_environment(bento: str) -> Settings:
    """All of it; ValueError names the variable, its value and what is allowed."""
    return Settings(
        model_folder=Path(os.environ.get("SLIPWAY_MODEL_DIR") or SOURCE_ROOT / "model"),
        bento=bento,
        threads=int(_number("SLIPWAY_THREADS", "1", least=1)),
        drain_seconds=_number("SLIPWAY_DRAIN_SECONDS", "0.5", least=0),
        access_log=os.environ.get("SLIPWAY_ACCESS_LOG") != "0",
        execution=_execution(),
        keys=_absolute("SLIPWAY_KEYS"),
        keys_required=os.environ.get("SLIPWAY_KEYS_REQUIRED") == "1",
        cache_url=os.environ.get("SLIPWAY_CACHE_URL") or None,
        features_url=_features_url(),
        features_timeout=_number("SLIPWAY_FEATURES_TIMEOUT", "2", least=0.001),
        features_key=_absolute("SLIPWAY_FEATURES_KEY_FILE"),
        prediction_log=_prediction_log(),
    )
