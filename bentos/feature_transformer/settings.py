"""`features.json` in the Bento, and what the environment says about one feature transformer.

Nothing here imports Feast: the Bento's build and BentoML's master read it as well.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from bentos.model_server import settings as model_server

FEATURES_JSON = "features.json"

Scalar = int | float | bool | str


class FeaturesError(ValueError):
    """`features.json` is wrong, or does not belong to the definitions; one line."""


class ViewConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See `serving_config.features.FeatureView`."""

    on_unknown: Literal["refuse", "default"] = "refuse"
    on_stale: Literal["refuse", "default", "serve"] = "refuse"
    defaults: dict[str, Scalar] = {}


class FeaturesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`features.json`; see `serving_config.features.Features`. timeout_seconds: how long a model
    server waits, so an answer has to be there before."""

    store: str = "feature_store.yaml"
    on_store_down: Literal["refuse", "default"] = "refuse"
    timeout_seconds: float = 2
    views: dict[str, ViewConfig] = {}
    max_rows: int = 1000
    max_body_bytes: int = 4 << 20
    max_concurrency: int = 256

    @property
    def deadline_seconds(self) -> float:
        """From a request to its answer."""
        return 0.8 * self.timeout_seconds

    @property
    def read_seconds(self) -> float:
        """Of one attempt to read the store; there are two within the deadline."""
        return 0.3 * self.timeout_seconds

    def view(self, name: str) -> ViewConfig:
        """The settings of a feature view; the defaults of one that has none."""
        return self.views.get(name) or ViewConfig()


def read_config(path: Path) -> FeaturesConfig:
    """`features.json`; FeaturesError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=FeaturesConfig)
    except OSError as error:
        raise FeaturesError(f"cannot read {path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise FeaturesError(f"{path.name}: {error}") from error


@dataclass(frozen=True)
class Settings:
    """server: what a model server reads from its environment, too; config: `features.json`."""

    server: model_server.Settings
    config: Path

    @property
    def access_log(self) -> bool:
        """Whether each answer gets a line."""
        return self.server.access_log


def from_environment(bento: str) -> Settings:
    """All of it; ValueError names the variable, its value and what is allowed.

    Where the store is, its own variables say when it is opened (SLIPWAY_FEATURES_HOME and those in
    its YAML file).
    """
    root = model_server.SOURCE_ROOT
    return Settings(model_server.from_environment(bento), root / FEATURES_JSON)
