"""What a feature store has, as one document: `description.json`.

Written when the definitions are applied, so that whoever needs names and types (export, the model
server's contract, the CLI, Dagster's assets) need not import Feast, which takes seconds.
"""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Literal

import msgspec

DESCRIPTION = "description.json"

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


def write_description(home: Path, description: Description) -> None:
    """Replace it by rename: a reader sees the old one or the new one."""
    data = msgspec.json.format(msgspec.json.encode(description), indent=2)
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=home, prefix=f".{DESCRIPTION}.", delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(data + b"\n")
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(home / DESCRIPTION)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def read_description(home: Path) -> Description:
    """FileNotFoundError where nothing was applied; msgspec.ValidationError for another format."""
    return msgspec.json.decode((home / DESCRIPTION).read_bytes(), type=Description)


def digest(store: Path) -> str:
    """SHA-256 of the Python files below this folder and the store's settings file."""
    found, folder = hashlib.sha256(), Path(__file__).parent
    for path in (*sorted(folder.rglob("*.py")), store):
        data = path.read_bytes()
        found.update(f"{os.path.relpath(path, folder)} {len(data)}\n".encode() + data)
    return found.hexdigest()
