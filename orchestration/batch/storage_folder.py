"""A folder that a job writes to: on this machine, or below an fsspec URL in an object storage."""

import hashlib
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from deploy.storage_errors import reason, shown
from orchestration.batch.errors import OutputError
from orchestration.batch.storage import (
    is_local,
    open_location,
    raises_os_error,
)

_CHUNK = 1 << 20


class Folder:
    """Names are relative, with `/`. A file that is written is there whole or not at all.

    OSErrors are the caller's to explain, with `explained`. path: as the file system knows it.
    """

    def __init__(self, url: str) -> None:
        self._fs, path = open_location(url, OutputError)
        self.is_local = is_local(self._fs)
        # A link is followed: it is the folder behind it that is exchanged.
        self.path: str = os.path.realpath(path) if self.is_local else path.rstrip("/")
        self.url: str = self.path if self.is_local else self._fs.unstrip_protocol(self.path)

    def __truediv__(self, name: str) -> "Folder":
        return Folder(f"{self.url}/{name}")

    def of(self, name: str) -> str:
        """The path of a file."""
        return f"{self.path}/{name}"

    def make(self, mode: int = 0o777) -> "Folder":
        """Object storages have no folders to make."""
        if self.is_local:
            Path(self.path).mkdir(mode=mode, parents=True, exist_ok=True)
        return self

    @raises_os_error
    def is_file(self) -> bool:
        """A file has its name, or what is neither file nor folder."""
        if self.is_local:
            return os.path.lexists(self.path) and not os.path.isdir(self.path)
        self._fs.invalidate_cache()
        return bool(self._fs.isfile(self.path))

    @raises_os_error
    def files(self) -> list[str]:
        """The names of all files below it, sorted."""
        self._fs.invalidate_cache()
        with suppress(FileNotFoundError):
            return sorted(path[len(self.path) + 1 :] for path in self._fs.find(self.path))
        return []

    def names(self) -> list[str]:
        """Of the files and folders in it, sorted."""
        if self.is_local:
            return sorted(os.listdir(self.path)) if os.path.isdir(self.path) else []
        return sorted({name.partition("/")[0] for name in self.files()})

    @raises_os_error
    def size(self, name: str) -> int | None:
        """None where there is no such file."""
        try:
            return int(self._fs.info(self.of(name))["size"])
        except FileNotFoundError:
            return None

    @raises_os_error
    def read(self, name: str) -> bytes | None:
        """None where there is no such file."""
        try:
            return bytes(self._fs.cat_file(self.of(name)))
        except (FileNotFoundError, NotADirectoryError):
            return None

    @raises_os_error
    def sha256(self, name: str) -> str:
        """Of a file's bytes, hex."""
        digest = hashlib.sha256()
        with self._fs.open(self.of(name), "rb") as file:
            while data := file.read(_CHUNK):
                digest.update(data)
        return digest.hexdigest()

    def write(self, name: str, data: bytes) -> None:
        """Replace a small file."""
        file = self.create(name)
        try:
            file.write(data)
            file.commit()
        finally:
            file.discard()

    def create(self, name: str) -> "NewFile":
        """A file that is there once it is committed."""
        return LocalFile(self.of(name)) if self.is_local else NewFile(self._fs, self.of(name))

    @raises_os_error
    def copy(self, name: str, target: "Folder", path: str) -> None:
        """Within the same object storage."""
        self._fs.copy(self.of(name), target.of(path))

    @raises_os_error
    def remove(self, name: str) -> None:
        """Harmless where it is gone."""
        with suppress(FileNotFoundError):
            self._fs.rm_file(self.of(name))

    @raises_os_error
    def remove_all(self) -> None:
        """The folder with all that is in it, or a file; harmless where it is gone."""
        if self.is_local:
            with suppress(FileNotFoundError):
                shutil.rmtree(self.path) if os.path.isdir(self.path) else os.unlink(self.path)
            return
        with suppress(FileNotFoundError):
            self._fs.rm(self.path, recursive=True)


class NewFile:
    """A file of an object storage, which is there when it is closed; hashed as it is written.

    It is what pyarrow takes for a file: write, flush, close, closed, tell.
    """

    def __init__(self, fs: Any, path: str) -> None:
        self.path, self._fs = path, fs
        self._digest = hashlib.sha256()
        self.size = 0
        self.closed = False
        self._file: Any = self._open()

    @raises_os_error
    def _open(self) -> Any:
        self._fs.makedirs(self.path.rpartition("/")[0], exist_ok=True)
        return self._fs.open(self.path, "wb")

    @property
    def sha256(self) -> str:
        """Of what was written so far, hex."""
        return self._digest.hexdigest()

    @raises_os_error
    def write(self, data: Any) -> int:
        """Bytes or a buffer; nothing where it was discarded, for a writer that is let go then ends
        its file."""
        view = memoryview(data)
        if self.closed:
            return view.nbytes
        self._file.write(view)
        self._digest.update(view)
        self.size += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        """Bytes written so far."""
        return self.size

    def flush(self) -> None:
        """Nothing: `commit` does."""

    def close(self) -> None:
        """Nothing: the file ends with `commit` or `discard`."""

    @raises_os_error
    def commit(self) -> None:
        """Make it what is found under its name."""
        self._file.close()
        self.closed = True

    def discard(self) -> None:
        """Leave nothing behind; nothing happens to one that was committed."""
        if self.closed:
            return
        self.closed = True
        with suppress(Exception):  # a failed upload fails again when it is closed
            self._file.discard() if hasattr(self._file, "discard") else self._file.close()
        with suppress(FileNotFoundError):
            self._fs.rm_file(self.path)


class LocalFile(NewFile):
    """Written beside its name, synchronised, renamed. Two writers of one name do not meet: a worker
    that was given up may still be at it."""

    def __init__(self, path: str) -> None:
        folder, _, name = path.rpartition("/")
        self._temporary = f"{folder}/.{name}.{secrets.token_hex(4)}.tmp"
        super().__init__(None, path)

    def _open(self) -> Any:
        Path(self._temporary).parent.mkdir(parents=True, exist_ok=True)
        return open(self._temporary, "wb", buffering=0)

    def write(self, data: Any) -> int:
        """See NewFile. A full disk may take a part of it: what is left fails on the next call."""
        view = memoryview(data).cast("B")
        if self.closed:
            return view.nbytes
        self._digest.update(view)
        self.size += view.nbytes
        left = view
        while left:
            left = left[self._file.write(left) :]
        return view.nbytes

    def commit(self) -> None:
        """See NewFile."""
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._temporary, self.path)
        self.closed = True

    def discard(self) -> None:
        """See NewFile."""
        if not self.closed:
            self.closed = True
            self._file.close()
            with suppress(FileNotFoundError):
                os.unlink(self._temporary)


def sync_folder(path: str) -> None:
    """What was created, renamed or removed in it stays so, also after a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def explained(error: OSError, place: str) -> OutputError:
    """What went wrong with the output, in one sentence. place: its path or URL."""
    return OutputError(f"cannot write {shown(str(error.filename or place))}: {reason(error)}")
