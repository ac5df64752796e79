"""The work folder of a job: beside a local output, below an output in object storage.

<work>/lock                  held by the job that is at it (local)
<work>/plan.json             what is done here; without it the folder holds nothing
<work>/receipts/00000.json   a part that is done, written after its files
<work>/result/…              what becomes the output
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

import msgspec

from orchestration.batch.documents import PartFile, Plan, Receipt
from orchestration.batch.errors import OutputError
from orchestration.batch.storage_folder import Folder

_PLAN, _LOCK, _DIGITS = "plan.json", "lock", 12
# Below an output in object storage: names of work folders begin so.
WORK = "_batch-"
RESULT, REJECTS = "result", "_rejects"


@dataclass(frozen=True)
class Work:
    """url: of the work folder, as `Folder` takes it; features_home: of the feature store, where the
    plan has a join. Picklable, for actors."""

    url: str
    features_home: str = ""

    @property
    def folder(self) -> Folder:
        """All of it."""
        return Folder(self.url)

    @property
    def result(self) -> Folder:
        """What becomes the output."""
        return Folder(f"{self.url}/{RESULT}")

    def plan(self) -> Plan | None:
        """None where no job has begun here, or what it left cannot be read."""
        data = self.folder.read(_PLAN)
        try:
            return None if data is None else msgspec.json.decode(data, type=Plan)
        except msgspec.DecodeError:
            return None

    def begin(self, plan: Plan) -> Plan:
        """The plan of the job that was begun here, if it is the same but for its time; else what
        lies here goes, and this one begins."""
        found = self.plan()
        if found is not None and found.work_digest == plan.work_digest:
            return found
        self.clear()
        self.result.make()
        self.folder.write(_PLAN, plan.encode())
        return plan

    def write_receipt(self, receipt: Receipt) -> None:
        """A part is done: from now on it is not done again."""
        self.folder.write(_receipt(receipt.part), msgspec.json.encode(receipt))

    def receipts(self, plan: Plan) -> dict[int, Receipt]:
        """By part; of those whose files are what they were."""
        result = self.result
        found = (self._receipt(part.index) for part in plan.parts)
        return {
            receipt.part: receipt
            for receipt in found
            if receipt and all(_intact(result, file) for file in files_of(receipt))
        }

    def _receipt(self, part: int) -> Receipt | None:
        data = self.folder.read(_receipt(part))
        try:
            return None if data is None else msgspec.json.decode(data, type=Receipt)
        except msgspec.DecodeError:
            return None

    def clear(self) -> None:
        """Remove everything but the lock; the plan last, which says what the rest is."""
        folder = self.folder
        for name in sorted({name.partition("/")[0] for name in folder.names()} - {_PLAN, _LOCK}):
            (folder / name).remove_all()
        folder.remove(_PLAN)

    def remove(self) -> None:
        """The folder itself; the plan goes as the last of what is in it."""
        self.clear()
        with suppress(OSError):  # another job of the same work may have come in meanwhile
            self.folder.remove_all()


def _receipt(part: int) -> str:
    return f"receipts/{part:05d}.json"


def files_of(receipt: Receipt) -> list[PartFile]:
    """The files that a part wrote."""
    return [file for file in (receipt.file, receipt.rejects_file) if file is not None]


def _intact(result: Folder, file: PartFile) -> bool:
    return result.size(file.path) == file.size and result.sha256(file.path) == file.sha256


def work_of(output: Folder, digest: str, features_home: str = "") -> Work:
    """Where the job of that work digest works towards an output."""
    return Work(f"{_prefix(output)}{digest[:_DIGITS]}", features_home)


def _prefix(output: Folder) -> str:
    if not output.is_local:
        return f"{output.url}/{WORK}"
    parent, _, name = output.path.rpartition("/")
    return f"{parent}/.{name}.batch-"


def works_of(output: Folder) -> list[Work]:
    """Work folders of all jobs towards the same output."""
    folder, _, start = _prefix(output).rpartition("/")
    there = Folder(folder)
    found = [name for name in there.names() if name.startswith(start)]
    return [Work(f"{there.url}/{name}") for name in found if len(name) == len(start) + _DIGITS]


def others_of(output: Folder, work: Work) -> list[Work]:
    """Those of other jobs."""
    own = work.url.rpartition("/")[2]
    return [found for found in works_of(output) if found.url.rpartition("/")[2] != own]


@contextmanager
def locked(work: Work) -> Iterator[bool]:
    """Whether nobody else is at it, and nobody will be meanwhile. In object storage: always."""
    folder = work.folder
    if not folder.is_local:
        yield True
        return
    file = _locked_file(folder)
    try:
        yield file is not None
    finally:
        if file is not None:
            file.close()


def _locked_file(folder: Folder) -> IO[bytes] | None:
    path = folder.of(_LOCK)
    while True:
        folder.make(mode=0o700)
        with suppress(FileNotFoundError):  # whoever had it removes the folder, the lock with it
            file = open(path, "ab")  # noqa: SIM115 - the lock lives as long as it
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                    return file
            except BlockingIOError:
                file.close()
                return None
            except FileNotFoundError:
                pass
            file.close()


@contextmanager
def exclusive(work: Work, output: Folder) -> Iterator[None]:
    """OutputError where another job is at the same output."""
    with locked(work) as is_ours:
        if not is_ours or any(_is_busy(other) for other in others_of(output, work)):
            raise OutputError(
                f"another job is writing {output.url}: it is in progress; wait for its end"
            )
        yield


def _is_busy(work: Work) -> bool:
    with locked(work) as is_free:
        return not is_free
