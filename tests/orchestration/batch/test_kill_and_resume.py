"""Killed at any moment and run again, a job ends as if nothing had happened."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.csv as pacsv
import pytest

from orchestration.batch import publish
from orchestration.batch.documents import Manifest
from orchestration.batch.errors import OutputError
from orchestration.batch.formats import csv
from orchestration.batch.job import JobProgress
from orchestration.batch.publish import read_manifest
from orchestration.batch.storage_folder import Folder
from tests.deploy.predictions.crashes import Crash, crash_at
from tests.orchestration.batch.jobs import (
    flowers,
    iris,
    leftovers,
    require_whole,
    rows_of,
    run,
    write_flowers,
)


@pytest.fixture(autouse=True)
def _in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies loses nothing that was written: these tests need not wait for a disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


ROOT = Path(__file__).parents[3]
# Kills itself at the first file operation whose event is that, and whose path matches.
_CHILD = """
import os, re, signal, sys
from pathlib import Path
from tests.orchestration.batch.jobs import run, stored

event_text, path_text, folder, overwrite = sys.argv[1:]

def hook(event, arguments):
    if event == event_text and re.search(path_text, " ".join(map(str, arguments))):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
folder = Path(folder)
parts = stored(folder / "model-iris-3")
run(folder, folder / "in", folder / "out", parts, overwrite=overwrite == "yes")
"""
MOMENTS = {
    "before the plan": ("open", ".plan.json"),
    "in the midst of a part": ("open", "result/.part-00001"),
    "before the first receipt": ("open", "receipts/.00000"),
    "between receipts": ("os.rename", "receipts/00002.json"),
    "after all parts": ("open", "result/._manifest"),
    "before it is published": ("os.rename", "/out"),
}


def kill(folder: Path, event: str, path: str, *, overwrite: bool = False) -> None:
    """Run the job in a process that dies there."""
    if not (folder / "model-iris-3").exists():
        iris().write(folder / "model-iris-3")
    command = [sys.executable, "-c", _CHILD, event, path, str(folder), "yes" if overwrite else ""]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert child.returncode == -signal.SIGKILL, child.stderr


def seen(folder: Path) -> Manifest | None:
    """What a reader finds meanwhile: a whole result or nothing."""
    output = folder / "out"
    if not output.exists():
        return None
    return require_whole(output)


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_for_real_the_same_command_goes_on(tmp_path: Path, moment: str) -> None:
    write_flowers(tmp_path / "in")
    kill(tmp_path, *MOMENTS[moment])
    assert seen(tmp_path) is None
    manifest = run(tmp_path, tmp_path / "in", tmp_path / "out")
    assert require_whole(tmp_path / "out") == manifest
    assert leftovers(tmp_path) == []
    done = {
        "in the midst of a part": 1,
        "between receipts": 2,
        "after all parts": 4,
        "before it is published": 4,
    }
    assert manifest.resumed_parts == done.get(moment, 0)


@pytest.mark.parametrize(
    ("event", "path", "is_new"),
    [
        ("os.rename", "/out ", False),  # the rename that finds the old result
        ("ctypes.dlsym", "renameat2", False),
        ("shutil.rmtree", "/receipts", True),
        ("shutil.rmtree", r"batch-\w+ ", True),
    ],
)
def test_killed_while_it_overwrites_there_is_always_one_whole_result(
    tmp_path: Path, event: str, path: str, is_new: bool
) -> None:
    write_flowers(tmp_path / "in")
    old = run(tmp_path, tmp_path / "in", tmp_path / "out", iris(2))
    kill(tmp_path, event, path, overwrite=True)
    found = seen(tmp_path)
    assert found is not None
    assert (found.model.version == "3") == is_new
    assert (found == old) != is_new
    manifest = run(tmp_path, tmp_path / "in", tmp_path / "out", overwrite=True)
    assert manifest.model.version == "3"
    if path == "/receipts":
        assert manifest == found  # it was over but for the cleaning: nothing was scored again
    assert require_whole(tmp_path / "out") == manifest
    assert leftovers(tmp_path) == []


def _crashing(folder: Path, operation: int, *, overwrite: bool) -> bool:
    """Whether the job came to that operation."""
    with crash_at(operation) as crash, contextlib.suppress(Crash, OutputError):
        run(folder, folder / "in", folder / "out", overwrite=overwrite)
    return crash.reached


@pytest.mark.parametrize("overwrite", [False, True])
def test_dead_before_any_file_operation_the_next_run_goes_on(
    tmp_path: Path, overwrite: bool
) -> None:
    for operation in range(0, 1000, 3 if overwrite else 1):
        folder = tmp_path / str(operation)
        write_flowers(folder / "in", 2500)
        iris().write(folder / "model-iris-3")
        if overwrite:
            run(folder, folder / "in", folder / "out", iris(2))
        reached = _crashing(folder, operation, overwrite=overwrite)
        if overwrite or (folder / "out").exists():
            require_whole(folder / "out", 2500)
        if not reached:
            assert operation > 25
            break
        # Once the work folder is gone, the job was over: it has nothing to go on with.
        with contextlib.suppress(OutputError):
            run(folder, folder / "in", folder / "out", overwrite=overwrite)
        assert require_whole(folder / "out", 2500).model.version == "3"
        assert leftovers(folder) == []


def test_dead_twice_in_different_places(tmp_path: Path) -> None:
    for first in range(3, 40, 9):
        for second in range(2, 30, 7):
            folder = tmp_path / f"{first}-{second}"
            write_flowers(folder / "in", 2500)
            iris().write(folder / "model-iris-3")
            for operation in (first, second):
                _crashing(folder, operation, overwrite=False)
                assert not (folder / "out").exists() or require_whole(folder / "out", 2500)
            with contextlib.suppress(OutputError):
                run(folder, folder / "in", folder / "out")
            require_whole(folder / "out", 2500)


def test_without_an_exchange_of_folders_a_rerun_brings_the_new_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "_renameat2", lambda *_: False)
    for operation in range(0, 1000, 3):
        folder = tmp_path / str(operation)
        write_flowers(folder / "in", 2500)
        iris().write(folder / "model-iris-3")
        run(folder, folder / "in", folder / "out", iris(2))
        reached = _crashing(folder, operation, overwrite=True)
        assert not (folder / "out").exists() or require_whole(folder / "out", 2500)
        run(folder, folder / "in", folder / "out", overwrite=True)
        assert require_whole(folder / "out", 2500).model.version == "3"
        assert leftovers(folder) == []
        if not reached:
            break


def stop_after(parts: int) -> Callable[[JobProgress], None]:
    def watch(progress: JobProgress) -> None:
        if progress.parts_done == parts:
            raise KeyboardInterrupt

    return watch


def test_interrupted_it_ends_and_goes_on_with_the_parts_that_are_missing(tmp_path: Path) -> None:
    write_flowers(tmp_path / "in")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, tmp_path / "in", tmp_path / "out", watch=stop_after(2))
    assert not (tmp_path / "out").exists()
    seen: list[JobProgress] = []
    manifest = run(tmp_path, tmp_path / "in", tmp_path / "out", watch=seen.append)
    assert manifest.resumed_parts == seen[0].parts_done >= 2
    assert seen[-1].parts_done == seen[-1].parts == 4
    assert seen[-1].rows_in == seen[-1].rows_total == 3500
    require_whole(tmp_path / "out")
    # One moment for all rows, though two runs scored them.
    assert {row["scored_at"] for row in rows_of(tmp_path / "out", without="note")} == {
        min(row["scored_at"] for row in rows_of(tmp_path / "out", without="note"))
    }


@pytest.mark.parametrize("damage", ["torn", "changed", "gone"])
def test_a_part_whose_file_is_not_what_it_was_is_done_again(tmp_path: Path, damage: str) -> None:
    write_flowers(tmp_path / "in")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, tmp_path / "in", tmp_path / "out", watch=stop_after(4))
    work = next(path for path in tmp_path.iterdir() if path.name.startswith(".out.batch-"))
    file = work / "result" / "part-00001.parquet"
    data = bytearray(file.read_bytes())
    data[200] ^= 1
    file.write_bytes({"torn": data[:-9], "changed": data, "gone": b""}[damage])
    if damage == "gone":
        file.unlink()
    manifest = run(tmp_path, tmp_path / "in", tmp_path / "out")
    assert manifest.resumed_parts == 3
    require_whole(tmp_path / "out")


def test_the_rows_of_a_csv_are_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    pacsv.write_csv(flowers(3500), tmp_path / "in" / "a.csv")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, tmp_path / "in", tmp_path / "out", watch=stop_after(1))
    monkeypatch.setattr(csv, "pieces", None)  # what would count them
    manifest = run(tmp_path, tmp_path / "in", tmp_path / "out")
    assert (manifest.resumed_parts > 0, manifest.rows_in, manifest.rejects) == (True, 3500, 350)


def test_another_input_begins_anew_and_takes_the_old_work_with_it(tmp_path: Path) -> None:
    write_flowers(tmp_path / "in")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, tmp_path / "in", tmp_path / "out", watch=stop_after(2))
    write_flowers(tmp_path / "in", seed=1)
    manifest = run(tmp_path, tmp_path / "in", tmp_path / "out")
    assert manifest.resumed_parts == 0
    fresh = run(tmp_path, tmp_path / "in", tmp_path / "fresh")
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "fresh")
    assert fresh.job == manifest.job
    assert leftovers(tmp_path) == []


def test_another_version_towards_the_same_output_shares_nothing(tmp_path: Path) -> None:
    write_flowers(tmp_path / "in")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, tmp_path / "in", tmp_path / "out", iris(2), watch=stop_after(2))
    manifest = run(tmp_path, tmp_path / "in", tmp_path / "out", iris(3))
    assert (manifest.model.version, manifest.resumed_parts) == ("3", 0)
    assert {row["model_version"] for row in rows_of(tmp_path / "out")} == {"3"}
    assert read_manifest(Folder(str(tmp_path / "out"))) == manifest
