"""What a model server is told by its environment variables, wherever it runs.

`bentos/model_server/service.py` lists them.
"""

from dataclasses import dataclass

from serving_config.features import Features
from serving_config.schema import Environment


@dataclass(frozen=True)
class Places:
    """What differs from machine to machine.

    keys, platform_key, pii_key: absolute paths of key files, which need not exist (yet).
    predictions: the prediction log's folder, '' where none is kept. features_url: of the feature
    transformer.
    """

    keys: str
    platform_key: str
    pii_key: str
    predictions: str
    features_url: str


def server_variables(
    environment: Environment, features: Features, places: Places
) -> dict[str, str]:
    """All of them but `secret_variables`, and but SLIPWAY_WORKERS and SLIPWAY_KEYS_REQUIRED, which
    are for the place to say."""
    log = environment.prediction_log
    return {
        "SLIPWAY_ENVIRONMENT": environment.name,
        "SLIPWAY_THREADS": str(environment.threads),
        "SLIPWAY_KEYS": places.keys,
        "SLIPWAY_ACCESS_LOG": "1" if environment.access_log else "0",
        "SLIPWAY_FEATURES_URL": places.features_url,
        "SLIPWAY_FEATURES_TIMEOUT": str(features.timeout_seconds),
        # Also while there is none: the first key may be added while the server runs.
        "SLIPWAY_FEATURES_KEY_FILE": places.platform_key,
        # Empty rather than absent: a parent's own variables may be inherited.
        "SLIPWAY_PREDICTION_LOG": places.predictions if log.enabled else "",
        "SLIPWAY_PREDICTION_DURABILITY": log.durability,
        "SLIPWAY_PREDICTION_FLUSH_SECONDS": str(log.flush_seconds),
        "SLIPWAY_PREDICTION_MAX_PENDING": str(log.max_pending_rows),
        "SLIPWAY_PREDICTION_SEGMENT_BYTES": str(log.segment_bytes),
        "SLIPWAY_PREDICTION_SEGMENT_SECONDS": str(log.segment_seconds),
        "SLIPWAY_PII_KEY": places.pii_key,
    }


def secret_variables(environment: Environment) -> dict[str, str]:
    """Those whose value may hold a password or a token, without those that are not set."""
    log = environment.prediction_log
    found = {
        "SLIPWAY_CACHE_URL": environment.cache_url,
        "SLIPWAY_CLOUD_EVENTS_URL": log.cloud_events_url if log.enabled else None,
    }
    return {name: value for name, value in found.items() if value is not None}
