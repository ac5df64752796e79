"""A home that worked without a store, published; and what is damaged in the store, mended."""

from collections.abc import Iterator

from deploy.artifacts.bentos import publish_bento
from deploy.artifacts.blobs import sha256, write_blob
from deploy.artifacts.files import VersionFiles
from deploy.artifacts.store import Store
from deploy.artifacts.versions import publish, published
from deploy.home import Home
from deploy.versions import VersionFolder


def publish_home(home: Home, store: Store) -> Iterator[str]:
    """Its versions and their Bentos; one line for each. Of a version that is published already
    the same files are written once more, and others stay as they are."""
    for folder in sorted(home.versions.glob("*/*/")):
        files = VersionFiles(folder, None).here()
        if files:
            yield from _publish(home, store, VersionFiles(folder, store), files)


def _publish(
    home: Home, store: Store, version: VersionFiles, files: dict[str, bytes]
) -> Iterator[str]:
    model, label = version.place
    if "bento.json" in files:
        built = VersionFolder.of(Home(home.root), model, label).bento()
        publish_bento(store, home.bentoml, built.tag, built.digest)
        yield f"{built.tag}, {built.digest}"
    pointer = published(store, model, label)
    if pointer is None:
        publish(store, model, label, files)
    same = pointer.files if pointer else {name: sha256(data) for name, data in files.items()}
    written = [name for name, data in files.items() if same.get(name) == sha256(data)]
    for name in written if pointer else ():
        write_blob(store, files[name])
    yield f"{model} version {label}: {', '.join(written) or 'another one is published'}"
