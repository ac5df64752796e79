"""The small documents that name blobs. Each is replaced in one piece; the last writer counts.

What two writers of one version mix up does not pass for a version: contract, certificate and Bento
name each other's digests.
"""

from typing import Annotated, TypeVar

import msgspec

from deploy.artifacts.errors import DamagedArtifactError, MissingArtifactError
from deploy.artifacts.store import Store

Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
FileName = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_-]{0,62}\\.[a-z0-9]{1,16}$")]
# As in a Bento's tag and in the settings: none of them can leave its folder.
Part = Annotated[str, msgspec.Meta(pattern="^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$")]
Pointer = TypeVar("Pointer", "VersionPointer", "BentoPointer")


class VersionPointer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """generation: how often it was replaced. files: name → SHA-256."""

    generation: Annotated[int, msgspec.Meta(ge=1)]
    files: dict[FileName, Digest]


class BentoPointer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """name:version is the tag; tar_sha256, size: of the tar."""

    name: Part
    version: Part
    tar_sha256: Digest
    size: Annotated[int, msgspec.Meta(ge=0)]

    @property
    def tag(self) -> str:
        """As BentoML writes it."""
        return f"{self.name}:{self.version}"


def version_name(model: str, label: str) -> str:
    """Where the version's document lies."""
    return f"versions/{_part(model)}/{_part(label)}.json"


def bento_name(digest: str) -> str:
    """Where the Bento's document lies."""
    return f"bentos/{digest}.json"


def read_pointer(store: Store, name: str, kind: type[Pointer]) -> Pointer | None:
    """None where there is none; DamagedArtifactError for what is none."""
    try:
        data = store.read(name)
    except MissingArtifactError:
        return None
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedArtifactError(f"{store.url}/{name} is damaged: {error}") from error


def write_pointer(store: Store, name: str, pointer: VersionPointer | BentoPointer) -> None:
    """Replace it; all that it names has to be there."""
    store.write(name, msgspec.json.encode(pointer, order="sorted"))


def _part(text: str) -> str:
    try:
        return msgspec.convert(text, Part)
    except msgspec.ValidationError as error:
        raise DamagedArtifactError(f"{text!r} is no name of a model or version") from error
