"""What the environment says about one model server.

Read in BentoML's master as well, so nothing here imports ONNX Runtime: a value that no worker
could read has to stop the master, which would start workers for ever.
"""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bentos.model_server.http_client import require_url

SOURCE_ROOT = Path(__file__).resolve().parents[2]

Execution = Literal["auto", "inline", "thread"]


@dataclass(frozen=True)
class Settings:
    """bento: the tag being served, or `unpacked`.

    threads: intra-op threads of ONNX Runtime; drain_seconds: between SIGTERM and the end of
    listening; execution: where batches are computed, see executors; keys, keys_required: see Keys;
    cache_url: of a Redis, it may hold a password; features_url, features_timeout, features_key: of
    the feature transformer, the seconds to wait for it, the file with the key that it demands.
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


def _number(variable: str, default: str, least: float) -> float:
    text = os.environ.get(variable) or default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= 3600:
        raise ValueError(f"{variable} must be a number from {least:g} to 3600, is {text!r}")
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
    )
