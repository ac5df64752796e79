"""What a feature store has, as one document: `description.json`.

Written when the definitions are applied, so that whoever needs names and types (export, the model
server's contract, the CLI, Dagster's assets) need not import Feast, which takes seconds.
"""

from typing import Literal

import msgspec

# The contract's names for what Feast has (Int32, Float64, …).
Dtype = Literal["float32", "float64", "int32", "int64", "bool", "string"]


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One feature, entity key or request field."""

    name: str
    dtype: Dtype


class Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One feature of a service. view: the feature view, or on-demand view, that has it."""

    name: str
    dtype: Dtype
    view: str


class View(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A feature view. ttl_seconds: None for one whose values never get stale; entities: its join
    keys; source: for people."""

    name: str
    kind: Literal["feature_view", "on_demand"]
    entities: tuple[Field, ...] = ()
    features: tuple[Field, ...] = ()
    ttl_seconds: float | None = None
    source: str = ""
    description: str = ""


class FeatureServiceDescription(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A feature service. request: the fields that its on-demand views read from the request."""

    name: str
    entities: tuple[Field, ...]
    features: tuple[Feature, ...]
    request: tuple[Field, ...] = ()
    description: str = ""


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """digest: SHA-256 (hex) of the definitions' source files and the store's configuration file."""

    project: str
    digest: str
    views: tuple[View, ...]
    services: tuple[FeatureServiceDescription, ...]

    def service(self, name: str) -> FeatureServiceDescription:
        """KeyError names the services there are."""
        for item in self.services:
            if item.name == name:
                return item
        known = ", ".join(sorted(item.name for item in self.services)) or "none"
        raise KeyError(f"no feature service {name!r} in project {self.project}; there is: {known}")
