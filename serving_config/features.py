"""How features are materialized and served: `features.yaml`, beside the definitions that
`feature_repo/` gives to Feast."""

from typing import Annotated, Literal

from pydantic import Field

from serving_config.base import Port, Seconds, Service, Settings

Hours = Annotated[float, Field(gt=0, le=8760, allow_inf_nan=False)]


class FeatureView(Settings):
    """One Feast feature view: when it is materialized, and what a request gets when it lacks."""

    every: Literal["hour", "day"] = "hour"
    """The windows in which it is materialized; also the partitions of its asset."""
    fresh_within_hours: Hours = 26
    """Older than that since its last materialization it alerts, and its asset is not fresh."""
    on_unknown: Literal["refuse", "default"] = "refuse"
    """An entity that the online store does not have: 422, or `defaults`."""
    on_stale: Literal["refuse", "default", "serve"] = "refuse"
    """A value older than the view's TTL: 422, `defaults`, or the value as it is."""
    defaults: dict[str, str | int | float | bool] = Field(default={})
    """By feature: what stands in for a value; every feature that can be asked for needs one."""


class Features(Service):
    """The online features: where the feature transformer listens, and its views' settings."""

    port: Port = 8090
    """The TCP port of the feature transformer, on `host` of platform.yaml.
    `SLIPWAY_FEATURES_PORT`; `SLIPWAY_FEATURES_URL` goes over `url`."""
    store: Annotated[str, Field(pattern=r"^[\w.-]+\.yaml$")] = "feature_store.yaml"
    """The store's file in `feature_repo/`. `SLIPWAY_FEATURE_STORE`."""
    on_store_down: Literal["refuse", "default"] = "refuse"
    """An online store that does not answer: 503, or every view's `defaults`."""
    timeout_seconds: Seconds = 2
    """How long a model server waits for the features of one request."""
    views: dict[str, FeatureView] = Field(default={})
    """By the name of the feature view. One that is not here is not materialized by schedule."""
