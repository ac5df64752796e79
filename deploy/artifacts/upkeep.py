"""Whether all that is named is there and whole, and what nobody names any more."""

from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from deploy.artifacts.bentos import fetch_bento
from deploy.artifacts.blobs import FOLDER, name_of, read_blob
from deploy.artifacts.errors import DamagedArtifactError, MissingArtifactError
from deploy.artifacts.pointers import BentoPointer, VersionPointer, read_pointer
from deploy.artifacts.store import Store, Stored

BENTO_FILE = "bento.json"


class _Built(msgspec.Struct):
    """Of `bento.json`, what matters here."""

    digest: str


def problems(store: Store) -> Iterator[str]:
    """One sentence for each file that is missing or damaged; StoreError where nobody knows."""
    bentos = {_digest_of(item) for item in store.files("bentos")}
    for name, pointer in _versions(store):
        for file, digest in pointer.files.items():
            try:
                data = read_blob(store, digest)
                if file == BENTO_FILE and _built(data) not in bentos:
                    yield f"{name}: its Bento, {_built(data)}, was not published"
            except (MissingArtifactError, DamagedArtifactError) as error:
                yield f"{name}: {file}: {error}"
    for item in store.files("bentos"):
        bento = _bento(store, item)
        try:
            with TemporaryDirectory() as scratch:
                fetch_bento(store, bento.tag, _digest_of(item), Path(scratch))
        except (MissingArtifactError, DamagedArtifactError) as error:
            yield f"{bento.tag}: {error}"


def surplus(store: Store, deployed: Collection[str], older_than: timedelta) -> list[Stored]:
    """What no version names and the ledger neither, in the order in which it may go.

    deployed: digests of Bentos. What is younger stays: somebody may be about to name it. Raises
    for a document that cannot be read: nobody knows what it names.
    """
    before = datetime.now(UTC) - older_than
    candidates = [item for item in store.files(FOLDER) if item.changed < before]
    wanted, built = set[str](), set(deployed)
    for _, pointer in _versions(store):
        wanted.update(pointer.files.values())
        if digest := pointer.files.get(BENTO_FILE):
            built.add(_built(read_blob(store, digest)))
    gone = []
    for item in store.files("bentos"):
        if _digest_of(item) in built or item.changed >= before:
            wanted.add(_bento(store, item).tar_sha256)
        else:
            gone.append(item)
    names = {name_of(digest) for digest in wanted}
    return [*gone, *(item for item in candidates if item.name not in names)]


def _versions(store: Store) -> Iterator[tuple[str, VersionPointer]]:
    for item in store.files("versions"):
        pointer = read_pointer(store, item.name, VersionPointer)
        if pointer is not None:
            yield item.name, pointer


def _bento(store: Store, item: Stored) -> BentoPointer:
    pointer = read_pointer(store, item.name, BentoPointer)
    if pointer is None:
        raise MissingArtifactError(f"{store.url}/{item.name} went away meanwhile: try again")
    return pointer


def _digest_of(item: Stored) -> str:
    return item.name.rpartition("/")[2].removesuffix(".json")


def _built(data: bytes) -> str:
    try:
        return msgspec.json.decode(data, type=_Built).digest
    except msgspec.DecodeError as error:
        raise DamagedArtifactError(f"a {BENTO_FILE} cannot be read: {error}") from error
