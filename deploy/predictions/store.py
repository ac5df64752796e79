"""The Parquet files, in a folder or in an object storage (fsspec):
`model=<model>/environment=<environment>/day=<YYYY-MM-DD>/<plan>-<number>.parquet`."""

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any, BinaryIO

_DAY = "day="


class Store:
    """Its paths are those of the file system behind the URL; a plain path is a local folder."""

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem

        self._fs, self._root = url_to_fs(url)
        self._root = self._root.rstrip("/")
        self._local = isinstance(self._fs, LocalFileSystem)

    def path(self, model: str, environment: str, day: date, name: str) -> str:
        """Where a file of that name belongs."""
        return f"{self._partitions(model, environment)}/{_DAY}{day.isoformat()}/{name}"

    def _partitions(self, model: str, environment: str) -> str:
        return f"{self._root}/model={model}/environment={environment}"

    def days(self, model: str, environment: str) -> dict[date, str]:
        """The folders of the days there are, the oldest first; a name that is none is left out."""
        found = {}
        for folder in self._list(self._partitions(model, environment)):
            name = folder.rpartition("/")[2]
            if name.startswith(_DAY):
                with suppress(ValueError):
                    found[date.fromisoformat(name.removeprefix(_DAY))] = folder
        return dict(sorted(found.items()))

    def places(self) -> list[tuple[str, str]]:
        """(model, environment) of all there is."""
        return [
            (model.rpartition("model=")[2], environment.rpartition("environment=")[2])
            for model in self._list(self._root)
            if "/model=" in model
            for environment in self._list(model)
            if "/environment=" in environment
        ]

    def files(self, folder: str) -> list[str]:
        """The Parquet files of a day."""
        return [path for path in self._list(folder) if path.endswith(".parquet")]

    def leftovers(self, folder: str, plan: str) -> list[str]:
        """All files of a plan, also those that were never complete."""
        names = ((path, path.rpartition("/")[2]) for path in self._list(folder))
        return [path for path, name in names if name.lstrip(".").startswith(f"{plan}-")]

    def _list(self, folder: str) -> list[str]:
        self._fs.invalidate_cache()  # others write here, too
        try:
            return sorted(self._fs.ls(folder, detail=False))
        except FileNotFoundError:
            return []

    def size(self, path: str) -> int:
        """Bytes of a file."""
        return int(self._fs.size(path))

    def remove(self, path: str) -> None:
        """Harmless where it is gone."""
        with suppress(FileNotFoundError):
            if self._local:
                os.unlink(path)
            else:
                self._fs.rm_file(path)

    def remove_folder(self, folder: str) -> None:
        """An empty one; object storages have none."""
        if self._local:
            os.rmdir(folder)

    def create(self, path: str) -> "NewFile":
        """A file that is there once it is published; one of the same name is replaced."""
        return LocalFile(Path(path), Path(self._root)) if self._local else NewFile(self._fs, path)

    def read(self, path: str, columns: list[str] | None = None, where: Any = None) -> Any:
        """A pyarrow Table; columns that the file does not have are left out. FileNotFoundError."""
        from pyarrow import dataset, fs

        # Arrow's own takes half as long for a small file, of which there are many.
        files = fs.LocalFileSystem() if self._local else fs.PyFileSystem(fs.FSSpecHandler(self._fs))
        found = dataset.ParquetFileFormat().make_fragment(path, files)
        schema = found.physical_schema
        names = columns and [name for name in schema.names if name in columns]
        return found.to_table(schema, columns=names, filter=where)


class NewFile:
    """A file of an object storage: a plain overwrite, which is there when it is closed."""

    def __init__(self, fs: Any, path: str) -> None:
        self.path = path
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        self.file: BinaryIO = fs.open(path, "wb")

    def publish(self) -> None:
        """Make it what is found under its name."""
        self.file.close()

    def abandon(self) -> None:
        """Close it after a failure. What lies there then, no reader counts: its plan is open."""
        self.file.close()


class LocalFile(NewFile):
    """Written under another name, synchronised and renamed: whole or not there."""

    def __init__(self, path: Path, root: Path) -> None:
        self.path = str(path)
        self._final, self._root = path, root
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._temporary = path.with_name(f".{path.name}.tmp")
        self.file = self._temporary.open("wb")

    def publish(self) -> None:
        """See NewFile."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        self._temporary.replace(self._final)
        for folder in _up_to(self._root, self._final.parent):
            sync_folder(folder)


def _up_to(root: Path, folder: Path) -> Iterator[Path]:
    """The folder and those it lies in: they may be new, too."""
    yield folder
    while folder != root:
        folder = folder.parent
        yield folder


def sync_folder(folder: Path) -> None:
    """What was created, renamed or removed in it stays so, also after a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
