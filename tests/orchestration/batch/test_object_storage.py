"""A job towards an object storage that dies there, before any of its operations."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from orchestration.batch.documents import Manifest
from orchestration.batch.errors import OutputError
from orchestration.batch.publish import read_manifest
from orchestration.batch.storage_folder import Folder
from tests.deploy.predictions.crashes import Crash
from tests.orchestration.batch.jobs import iris, require_whole, run, write_flowers

OUT = "dying://bucket/out"


class Dying(MemoryFileSystem):
    """From the operation with the number `at`, nothing happens any more that would change it."""

    protocol = "dying"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    at: ClassVar[int | None] = None
    count: ClassVar[int] = 0

    def change(self) -> None:
        Dying.count += 1
        if self.at is not None and self.count > self.at:
            raise Crash(self.count)

    def _open(self, path: str, mode: str = "rb", *more: Any, **options: Any) -> Any:
        if mode != "rb":
            self.change()
        return super()._open(path, mode, *more, **options)

    def cp_file(self, path1: str, path2: str, **options: Any) -> None:
        self.change()
        super().cp_file(path1, path2, **options)

    def rm_file(self, path: str) -> None:
        self.change()
        super()._rm(path)

    _rm = rm_file


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    fsspec.register_implementation("dying", f"{__name__}.Dying", clobber=True)
    yield
    Dying.at = None
    Dying.store.clear()


def dies_at(operation: int, folder: Path, *, overwrite: bool) -> bool:
    """Whether the job came to that operation."""
    Dying.count, Dying.at = 0, operation
    with contextlib.suppress(Crash):
        run(folder, folder / "in", OUT, overwrite=overwrite)
    reached, Dying.at = Dying.count > operation, None
    return reached


@pytest.mark.parametrize("overwrite", [False, True])
def test_whatever_has_a_manifest_is_whole_and_the_next_run_goes_on(
    tmp_path: Path, overwrite: bool
) -> None:
    write_flowers(tmp_path / "in", 2500)
    for operation in range(1000):
        Dying.store.clear()
        if overwrite:
            run(tmp_path, tmp_path / "in", OUT, iris(2))
        reached = dies_at(operation, tmp_path, overwrite=overwrite)
        found = read_manifest(Folder(OUT))
        if found is not None:
            require_readable(found)
        if not reached:
            break
        with contextlib.suppress(OutputError):  # it was over but for its work folder
            run(tmp_path, tmp_path / "in", OUT, overwrite=overwrite)
        assert require_whole(OUT, 2500).model.version == "3"
    assert operation > 25


def require_readable(manifest: Manifest) -> None:
    """All that it names is there, as it names it."""
    folder = Folder(OUT)
    for file in (*manifest.files, *manifest.rejects_files):
        assert folder.sha256(file.path) == file.sha256
