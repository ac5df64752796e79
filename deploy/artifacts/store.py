"""The storage below an fsspec URL: a folder, or a bucket of an object storage."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from deploy.artifacts.errors import ArtifactsError, MissingArtifactError, StoreError
from deploy.home import Home
from deploy.storage_errors import DEFECTS, has_credentials, reason

_CHUNK = 1 << 20
# Seconds, and tries: botocore's own wait for minutes on a storage that has gone.
_S3 = {"connect_timeout": 5, "read_timeout": 30, "retries": {"max_attempts": 3}}


@dataclass(frozen=True)
class Stored:
    """A file of the store; changed: with its time zone."""

    name: str
    size: int
    changed: datetime


class Store:
    """Names are relative, with `/`. What is written is there whole or not at all.

    Raises StoreError where it cannot be used and MissingArtifactError for what it does not have.
    The folder or bucket itself has to exist: a mount that is missing is no empty store.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._fs, self._root = _opened(self.url)
        self._is_local = "file" in _protocols(self._fs)

    def read(self, name: str) -> bytes:
        """A file's bytes."""
        with self._errors(name):
            return bytes(self._fs.cat_file(self._path(name)))

    def download(self, name: str, file: BinaryIO, size: int) -> None:
        """Append a file's bytes to `file`; no more than one beyond `size`, which tells that it is
        another file."""
        left = size + 1
        with self._errors(name), self._fs.open(self._path(name), "rb") as source:
            while data := source.read(min(left, _CHUNK)):
                left -= file.write(data)

    def write(self, name: str, data: bytes) -> None:
        """Replace a file."""
        with self._writing(name) as path:
            if self._is_local:
                with _renamed(path) as file:
                    file.write(data)
            else:
                self._fs.pipe_file(path, data)

    def upload(self, name: str, source: Path) -> None:
        """Replace a file by one of this machine."""
        with self._writing(name) as path:
            if self._is_local:
                with source.open("rb") as origin, _renamed(path) as file:
                    while data := origin.read(_CHUNK):
                        file.write(data)
            else:
                self._fs.put_file(str(source), path)

    def files(self, folder: str) -> list[Stored]:
        """All files below a folder, sorted by name; none where there is no such folder."""
        with self._errors(folder):
            self._require_root()
            self._fs.invalidate_cache()
            found = self._fs.find(self._path(folder), detail=True)
        skip = len(self._root) + 1
        stored = (Stored(p[skip:], int(i["size"]), _changed(i)) for p, i in found.items())
        # A dot begins what a writer that was killed left in a folder of this machine.
        return sorted((s for s in stored if _is_whole(s.name)), key=lambda item: item.name)

    def remove(self, name: str) -> None:
        """Harmless where it is gone."""
        with self._errors(name):
            try:
                self._fs.rm_file(self._path(name))
            except FileNotFoundError:
                self._require_root()

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _writing(self, name: str) -> Iterator[str]:
        with self._errors(name):
            self._require_root()
            yield self._path(name)

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        try:
            try:
                yield
            except FileNotFoundError as error:
                self._require_root()
                raise MissingArtifactError(f"{self.url} has no {name}") from error
        except (ArtifactsError, *DEFECTS):
            raise
        except Exception as error:  # each storage library has classes of its own
            raise StoreError(f"{self.url} cannot be used: {reason(error)}") from error

    def _require_root(self) -> None:
        if self._is_local:
            if not os.path.isdir(self._root):
                raise StoreError(f"{self.url} cannot be used: make the folder, or mount it")
            return
        bucket = self._root.strip("/").partition("/")[0]
        if not self._fs.exists(bucket):
            raise StoreError(f"{self.url} cannot be used: there is no bucket {bucket}")


def _opened(url: str) -> tuple[Any, str]:
    from fsspec import available_protocols
    from fsspec.config import conf
    from fsspec.core import url_to_fs

    scheme = url.partition("://")[0]
    if "::" in url or scheme not in available_protocols():
        raise StoreError(f"{scheme!r} is no scheme of a store of artifacts: s3, gs, abfs, file, …")
    if has_credentials(url):
        raise StoreError(
            "credentials in the artifacts' URL would be shown: give them to fsspec "
            f"(FSSPEC_{scheme.upper()}_…) or in the storage's own variables"
        )
    is_s3 = scheme in ("s3", "s3a") and "config_kwargs" not in conf.get("s3", {})
    try:
        filesystem, path = url_to_fs(url, **({"config_kwargs": _S3} if is_s3 else {}))
    except Exception as error:  # TypeError of those that need more than a URL, too
        raise StoreError(f"{url} cannot be used: {reason(error)}") from error
    return filesystem, str(path).rstrip("/")


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _is_whole(name: str) -> bool:
    return not name.rpartition("/")[2].startswith(".")


def _changed(info: dict[str, Any]) -> datetime:
    for key in ("LastModified", "last_modified", "updated", "mtime", "created"):
        value = info.get(key)
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
    return datetime.now(UTC)  # not known: as if it were new


@contextmanager
def _renamed(path: str) -> Iterator[BinaryIO]:
    """A file of this machine: synchronised, then renamed to `path`."""
    folder, _, name = path.rpartition("/")
    os.makedirs(folder, exist_ok=True)
    temporary = f"{folder}/.{name}.{secrets.token_hex(4)}"
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def artifacts_of(home: Home) -> Store | None:
    """The store of a home; None where it has all that it needs itself."""
    return None if home.artifacts_url is None else Store(home.artifacts_url)
