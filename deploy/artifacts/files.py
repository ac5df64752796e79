"""The files of one version: in a folder of this machine and, where there is a store, published.

What counts is what was published last. Of a version that was never published, as when the home was
there before the store, it is what lies here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.artifacts.blobs import read_blob, sha256
from deploy.artifacts.store import Store
from deploy.artifacts.versions import publish, published
from deploy.home import write_atomically

FILES = ("model.onnx", "contract.json", "certificate.json", "challenger.json", "bento.json")


@dataclass(frozen=True)
class VersionFiles:
    """folder: `…/<model>/<label>`. Raises ArtifactsError where the store is of no use."""

    folder: Path
    store: Store | None

    @property
    def place(self) -> tuple[str, str]:
        """(model, label)."""
        return self.folder.parent.name, self.folder.name

    def read(self, name: str) -> bytes | None:
        """None where there is no such file. What is here is what was read last."""
        found, published = self._here(name), self._published()
        if self.store is None or published is None:
            return found
        digest = published.get(name)
        if digest is None:
            return None
        if found is None or sha256(found) != digest:
            found = read_blob(self.store, digest)
            self._keep(name, found)
        return found

    def digest(self, name: str) -> str | None:
        """SHA-256 (hex) of the file that counts."""
        if (published := self._published()) is not None:
            return published.get(name)
        data = self._here(name)
        return None if data is None else sha256(data)

    def write(self, files: Mapping[str, bytes], void: tuple[str, ...] = ()) -> None:
        """Replace them, and take away what they make void; for other machines all at once."""
        for name in void:
            (self.folder / name).unlink(missing_ok=True)
        for name, data in files.items():
            self._keep(name, data)
        if self.store is not None:
            first = self.here() if self._published() is None else {}
            publish(self.store, *self.place, {**first, **files}, void)

    def here(self) -> dict[str, bytes]:
        """Those on this machine."""
        found = ((name, self._here(name)) for name in FILES)
        return {name: data for name, data in found if data is not None}

    def _here(self, name: str) -> bytes | None:
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def _keep(self, name: str, data: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / name, data)

    def _published(self) -> dict[str, str] | None:
        pointer = None if self.store is None else published(self.store, *self.place)
        return None if pointer is None else pointer.files
