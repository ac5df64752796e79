"""A version's files in the store."""

from collections.abc import Iterable, Mapping

from deploy.artifacts.blobs import sha256, write_blob
from deploy.artifacts.pointers import (
    VersionPointer,
    read_pointer,
    version_name,
    write_pointer,
)
from deploy.artifacts.store import Store


def published(store: Store, model: str, label: str) -> VersionPointer | None:
    """What the store has of the version; None where it was never published."""
    return read_pointer(store, version_name(model, label), VersionPointer)


def publish(
    store: Store,
    model: str,
    label: str,
    files: Mapping[str, bytes],
    dropped: Iterable[str] = (),
) -> VersionPointer:
    """Add and replace these files, and take others away, all at once."""
    before = published(store, model, label)
    known = dict(before.files) if before else {}
    after = {name: digest for name, digest in known.items() if name not in set(dropped)}
    for name, data in files.items():
        if known.get(name) != sha256(data):
            write_blob(store, data)
        after[name] = sha256(data)
    if before is not None and after == before.files:
        return before
    pointer = VersionPointer(before.generation + 1 if before else 1, after)
    write_pointer(store, version_name(model, label), pointer)
    return pointer


def labels(store: Store, model: str) -> set[str]:
    """The versions and variants of a model that were published."""
    names = [item.name.rpartition("/")[2] for item in store.files(f"versions/{model}")]
    return {name.removesuffix(".json") for name in names if name.endswith(".json")}
