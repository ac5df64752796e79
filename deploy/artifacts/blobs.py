"""Bytes named by their SHA-256."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from deploy.artifacts.errors import DamagedArtifactError
from deploy.artifacts.store import Store

FOLDER = "blobs/sha256"


def sha256(data: bytes) -> str:
    """Hex."""
    return hashlib.sha256(data).hexdigest()


def sha256_of(path: Path) -> str:
    """Hex, of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def name_of(digest: str) -> str:
    """Where the blob lies."""
    return f"{FOLDER}/{digest}"


def read_blob(store: Store, digest: str) -> bytes:
    """Its bytes; DamagedArtifactError where they are others."""
    data = store.read(name_of(digest))
    _require(store, digest, sha256(data))
    return data


def write_blob(store: Store, data: bytes) -> str:
    """Returns the digest. Written again also where it is there: that mends it, and `prune` spares
    what is new."""
    digest = sha256(data)
    store.write(name_of(digest), data)
    return digest


def upload_blob(store: Store, source: Path) -> str:
    """As `write_blob`, of a file."""
    digest = sha256_of(source)
    store.upload(name_of(digest), source)
    return digest


@contextmanager
def downloaded(store: Store, digest: str, size: int, scratch: Path) -> Iterator[BinaryIO]:
    """A checked copy in a file below `scratch`, gone afterwards."""
    with TemporaryDirectory(dir=scratch) as folder, open(f"{folder}/blob", "w+b") as file:
        store.download(name_of(digest), file, size)
        file.seek(0)
        _require(store, digest, hashlib.file_digest(file, "sha256").hexdigest())
        file.seek(0)
        yield file


def _require(store: Store, digest: str, found: str) -> None:
    if found != digest:
        raise DamagedArtifactError(
            f"{store.url}/{name_of(digest)} has digest {found}, not {digest}: it is damaged; "
            "`python -m deploy.artifacts publish` where the files are mends it"
        )
