"""Bentos in the store, by their own digest."""

import shutil
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from bentos.model_server.bundle import BundleError, bento_digest
from deploy.artifacts.blobs import downloaded, upload_blob
from deploy.artifacts.errors import DamagedArtifactError, MissingArtifactError
from deploy.artifacts.pointers import BentoPointer, bento_name, read_pointer, write_pointer
from deploy.artifacts.store import Store
from deploy.artifacts.tars import MAX_BYTES, pack, unpack

_SCRATCH = ".fetched"
# What a process that was killed left is nobody's after that.
_LEFT_SECONDS = 86_400


def bento_folder(bentoml_home: Path, tag: str) -> Path:
    """Where BentoML keeps it."""
    name, _, version = tag.partition(":")
    return bentoml_home / "bentos" / name / version


def publish_bento(store: Store, bentoml_home: Path, tag: str, digest: str) -> BentoPointer:
    """From the local store. DamagedArtifactError where it is not the Bento of that digest."""
    folder = bento_folder(bentoml_home, tag)
    _require(folder, tag, digest)
    name, _, version = tag.partition(":")
    with TemporaryDirectory(prefix="slipway-publish-") as scratch:
        path = Path(scratch) / "bento.tar"
        with path.open("wb") as file:
            pack(folder, file)
        size, tar_sha256 = path.stat().st_size, upload_blob(store, path)
    pointer = BentoPointer(name, version, tar_sha256, size)
    write_pointer(store, bento_name(digest), pointer)
    return pointer


def fetch_bento(store: Store, tag: str, digest: str, bentoml_home: Path) -> Path:
    """Into the local store; returns its folder there, at once where it is there and whole.

    It may be killed at any moment, and two may do it at once: what is found under the Bento's name
    was checked before. MissingArtifactError, DamagedArtifactError, StoreError.
    """
    folder = bento_folder(bentoml_home, tag)
    if is_intact(folder, tag, digest):
        return folder
    pointer = read_pointer(store, bento_name(digest), BentoPointer)
    if pointer is None:
        raise MissingArtifactError(f"{store.url} has no Bento with digest {digest} ({tag})")
    if pointer.tag != tag:
        raise DamagedArtifactError(f"the Bento with digest {digest} is {pointer.tag}, not {tag}")
    scratch = bentoml_home / _SCRATCH
    scratch.mkdir(parents=True, exist_ok=True)
    _sweep(scratch)
    with TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as name:
        _download(store, pointer, Path(name))
        _require(Path(name) / "bento", tag, digest)
        _move(Path(name) / "bento", folder, tag, digest)
    return folder


def _download(store: Store, pointer: BentoPointer, scratch: Path) -> None:
    if pointer.size > MAX_BYTES:
        raise DamagedArtifactError(f"the Bento {pointer.tag} has {pointer.size} bytes")
    with downloaded(store, pointer.tar_sha256, pointer.size, scratch) as tar:
        (scratch / "bento").mkdir()
        unpack(tar, scratch / "bento")


def _move(made: Path, folder: Path, tag: str, digest: str) -> None:
    """By one rename; what is there and is not the Bento leaves first."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists() and not is_intact(folder, tag, digest):
        with suppress(FileNotFoundError):
            folder.rename(made.parent / "other")
    try:
        made.rename(folder)
    except OSError:
        if not is_intact(folder, tag, digest):  # somebody else was faster, with the same Bento
            raise


def is_intact(folder: Path, tag: str, digest: str) -> bool:
    """Whether it is the whole Bento of that digest."""
    try:
        _require(folder, tag, digest)
    except DamagedArtifactError:
        return False
    return True


def _require(folder: Path, tag: str, digest: str) -> None:
    """The digest is that of the sources alone: beside it, bento.yaml says what is started."""
    try:
        found = bento_digest(folder)
        manifest = yaml.safe_load((folder / "bento.yaml").read_text(encoding="utf-8"))
        named = (f"{manifest['name']}:{manifest['version']}", manifest["envs"])
        ours = str(manifest["service"]).startswith("bentos.")
    except (BundleError, OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise DamagedArtifactError(f"{folder} is no Bento: {error}") from error
    if found != digest:
        raise DamagedArtifactError(f"Bento {tag} in {folder} has digest {found}, not {digest}")
    if named != (tag, []) or not ours:
        raise DamagedArtifactError(f"{folder}/bento.yaml is not that of {tag}")


def _sweep(scratch: Path) -> None:
    for left in scratch.iterdir():
        with suppress(FileNotFoundError):
            if left.stat().st_mtime < time.time() - _LEFT_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
