"""A batch job from its request to what lies in the output."""

import errno
import gc
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from bentos.model_server.certificate import CertificateError
from orchestration.batch import part_file, scorer, storage_folder
from orchestration.batch.errors import BatchError, InputError, OutputError
from orchestration.batch.job import JobProgress, JobRequest, run_job
from orchestration.batch.publish import read_manifest
from orchestration.batch.scorer import BATCH_ROWS, ScoredBatch, Scorer
from orchestration.batch.storage_folder import Folder
from tests.orchestration.batch.jobs import (
    ADDED,
    IRIS,
    PART_ROWS,
    configuration,
    flowers,
    iris,
    leftovers,
    petal_width,
    require_whole,
    rows_of,
    run,
    write_flowers,
)

ROOT = Path(__file__).parents[3]


def test_keys_predictions_and_lineage_come_out_and_every_row_is_accounted_for(
    tmp_path: Path,
) -> None:
    source = write_flowers(tmp_path / "in")
    manifest = run(tmp_path, source, tmp_path / "out", actor="me", dagster_run="r1")
    assert require_whole(tmp_path / "out") == manifest
    rows = rows_of(tmp_path / "out", without="note")
    assert list(rows[0]) == ["flower", *ADDED]
    assert manifest.keys == ("flower", "note")
    assert rows[0]["onnx_sha256"] == manifest.model.onnx_sha256 == iris().contract.onnx_sha256
    assert {row["scored_at"].isoformat() for row in rows} == {manifest.scored_at}
    assert sum(manifest.distribution.labels.values()) == len(rows)
    assert (manifest.actor, manifest.dagster_run, manifest.engine) == ("me", "r1", "local")
    assert [file.rows for file in manifest.inputs] == [3500]
    refused = pq.read_table(tmp_path / "out" / "_rejects").to_pylist()
    assert [row["source_row"] for row in refused] == list(range(9, 3500, 10))
    assert list(manifest.reasons.values()) == [350]
    assert leftovers(tmp_path) == []


def test_as_many_threads_as_one_likes_write_the_same_bytes(tmp_path: Path) -> None:
    source = write_flowers(tmp_path / "in", 9500)

    def stop(_: JobProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # the plan is there, with the moment of the job
        run(tmp_path, source, tmp_path / "one", watch=stop)
    work = next(tmp_path.glob(".one.batch-*"))
    shutil.copytree(work, tmp_path / work.name.replace("one", "three"))
    one = run(tmp_path, source, tmp_path / "one", threads=1)
    three = run(tmp_path, source, tmp_path / "three", threads=3)
    assert one.files == three.files
    assert one.rejects_files == three.rejects_files
    assert len(one.files) == 10


def test_the_batches_of_a_large_row_group_are_scored_at_once_and_written_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = 3 * BATCH_ROWS
    (tmp_path / "in").mkdir()
    pq.write_table(flowers(rows), tmp_path / "in" / "a.parquet")
    both, score = threading.Barrier(3, timeout=30), Scorer.score

    def together(*arguments: Any) -> ScoredBatch:
        both.wait()
        return score(*arguments)

    monkeypatch.setattr(Scorer, "score", together)
    manifest = run(tmp_path, tmp_path / "in", tmp_path / "out", threads=3)
    assert require_whole(tmp_path / "out", rows) == manifest
    assert len(manifest.files) == 1


def test_of_long_rows_fewer_are_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    random = np.random.default_rng(0)
    texts = [random.bytes(5_000).hex() for _ in range(100)]
    long = flowers(100).append_column("letter", pa.array(texts))
    pq.write_table(long, tmp_path / "in" / "a.parquet")
    monkeypatch.setattr(scorer, "BATCH_BYTES", 100_000)
    sizes: list[int] = []
    score = Scorer.score

    def counted(self: Scorer, batch: pa.RecordBatch, *place: Any) -> ScoredBatch:
        sizes.append(len(batch))
        return score(self, batch, *place)

    monkeypatch.setattr(Scorer, "score", counted)
    manifest = run(tmp_path, tmp_path / "in", tmp_path / "out")
    assert (sum(sizes), manifest.rows_in) == (100, 100)
    assert 8 <= max(sizes) <= 25


def test_a_result_without_rows_has_the_columns(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pq.write_table(flowers(0), tmp_path / "in" / "a.parquet")
    manifest = run(tmp_path, tmp_path / "in", tmp_path / "out")
    assert (manifest.rows_in, manifest.rows_out, manifest.rejects) == (0, 0, 0)
    assert pq.read_table(tmp_path / "out").column_names == ["flower", "note", *ADDED]


def test_the_values_of_a_regression_have_a_distribution(tmp_path: Path) -> None:
    source = write_flowers(tmp_path / "in")
    manifest = run(tmp_path, source, tmp_path / "out", petal_width(), keys=("flower",))
    found = manifest.distribution
    values = [row["prediction"] for row in rows_of(tmp_path / "out")]
    assert (len(found.edges), len(found.counts), manifest.rejects) == (65, 64, 0)
    assert min(values) <= found.edges[0] < found.edges[-1] <= max(values)
    assert 500 < sum(found.counts) <= 4 * 1000
    pq.write_table(flowers(2).select(["flower", *IRIS[:3]]).take([0, 0]), tmp_path / "same.parquet")
    same = run(tmp_path, tmp_path / "same.parquet", tmp_path / "constant", petal_width())
    assert sum(same.distribution.counts) == 2


def test_an_output_that_is_there_is_only_overwritten_when_told_to(tmp_path: Path) -> None:
    source = write_flowers(tmp_path / "in")
    first = run(tmp_path, source, tmp_path / "out")
    with pytest.raises(OutputError, match=r"is there already.*--overwrite"):
        run(tmp_path, source, tmp_path / "out")
    assert require_whole(tmp_path / "out") == first
    second = run(tmp_path, source, tmp_path / "out", overwrite=True)
    assert require_whole(tmp_path / "out") == second != first
    with pytest.raises(OutputError, match="is there already"):  # before the input is looked at
        run(tmp_path, tmp_path / "nowhere", tmp_path / "out")
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_result_is_never_overwritten(tmp_path: Path, overwrite: bool) -> None:
    source = write_flowers(tmp_path / "in")
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("all of it")
    with pytest.raises(OutputError, match="never overwritten"):
        run(tmp_path, source, home, overwrite=overwrite)
    with pytest.raises(OutputError, match="is a file"):
        run(tmp_path, source, home / "thesis.txt", overwrite=overwrite)
    assert (home / "thesis.txt").read_text() == "all of it"
    assert leftovers(tmp_path) == leftovers(home) == []


def test_an_empty_folder_is_no_output_and_a_link_leads_to_the_folder_behind(
    tmp_path: Path,
) -> None:
    source = write_flowers(tmp_path / "in")
    (tmp_path / "behind").mkdir()
    (tmp_path / "out").symlink_to("behind")
    run(tmp_path, source, tmp_path / "out")
    run(tmp_path, source, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out").is_symlink()
    require_whole(tmp_path / "behind")


@pytest.mark.parametrize(
    ("asked", "output"),
    [
        ("in", "in"),
        ("in", "in/out"),
        ("in", ""),
        ("in/a.parquet", "in/a.parquet"),
        ("in/*.parquet", "in"),
        ("in/*/*.parquet", "in/deep"),
    ],
)
def test_input_and_output_lie_apart(tmp_path: Path, asked: str, output: str) -> None:
    write_flowers(tmp_path / "in")
    write_flowers(tmp_path / "in" / "deeper")
    with pytest.raises(OutputError, match="lie in each other"):
        run(tmp_path, tmp_path / asked, tmp_path / output, overwrite=True)
    assert leftovers(tmp_path) == leftovers(tmp_path / "in") == []
    require_readable = pq.read_table(tmp_path / "in" / "a.parquet")
    assert require_readable.num_rows == 3500


def test_of_two_jobs_towards_one_output_the_second_is_told(tmp_path: Path) -> None:
    source = write_flowers(tmp_path / "in")
    said: list[str] = []

    def meanwhile(progress: JobProgress) -> None:
        if progress.parts_done == 1:
            for version in (2, 3):
                with pytest.raises(OutputError) as refused:
                    run(tmp_path, source, tmp_path / "out", iris(version), overwrite=True)
                said.append(str(refused.value))

    manifest = run(tmp_path, source, tmp_path / "out", iris(3), watch=meanwhile)
    assert [text.count("in progress") for text in said] == [1, 1]
    assert require_whole(tmp_path / "out") == manifest
    assert leftovers(tmp_path) == []


def test_a_result_that_appeared_meanwhile_stays(tmp_path: Path) -> None:
    source = write_flowers(tmp_path / "in")

    def meanwhile(progress: JobProgress) -> None:
        if progress.parts_done == progress.parts and not (tmp_path / "out").exists():
            shutil.copytree(tmp_path / "other", tmp_path / "out")

    other = run(tmp_path, source, tmp_path / "other", iris(2))
    with pytest.raises(OutputError, match="is there already"):
        run(tmp_path, source, tmp_path / "out", iris(3), watch=meanwhile)
    assert require_whole(tmp_path / "out") == other
    manifest = run(tmp_path, source, tmp_path / "out", iris(3), overwrite=True)
    assert manifest.resumed_parts == 4


def test_a_corrupt_file_among_others_ends_the_job_and_mended_it_goes_on(tmp_path: Path) -> None:
    folder = write_flowers(tmp_path / "in")
    data = bytearray((folder / "a.parquet").read_bytes())
    whole = bytes(data)
    middle = len(data) * 3 // 4
    data[middle : middle + 2000] = bytes(2000)
    (folder / "a.parquet").write_bytes(data)
    changed = (folder / "a.parquet").stat()
    with pytest.raises(InputError, match=r"in/a\.parquet"):
        run(tmp_path, folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    # As it was, with the same size and time of change: what was done stays done.
    (folder / "a.parquet").write_bytes(whole)
    os.utime(folder / "a.parquet", ns=(changed.st_atime_ns, changed.st_mtime_ns))
    assert run(tmp_path, folder, tmp_path / "out").resumed_parts >= 1
    require_whole(tmp_path / "out")


def test_no_space_is_said_and_the_job_goes_on_when_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_flowers(tmp_path / "in")
    written = storage_folder.LocalFile.write

    def full(self: storage_folder.LocalFile, data: object) -> int:
        if "part-00002" in self.path:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        return written(self, data)

    with monkeypatch.context() as patched:
        patched.setattr(storage_folder.LocalFile, "write", full)
        with pytest.raises(OutputError, match="no space left"):
            run(tmp_path, source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out.batch-*/result/.*"))
    # Those that other threads were at meanwhile have ended, or they have not.
    done = {path.stem for path in tmp_path.glob(".out.batch-*/receipts/*.json")}
    assert {"00000", "00001"} <= done
    assert "00002" not in done
    assert run(tmp_path, source, tmp_path / "out").resumed_parts == len(done)
    require_whole(tmp_path / "out")


_LIMITED = """
import resource, sys
from pathlib import Path
from tests.orchestration.batch.jobs import run, stored
folder = Path(sys.argv[1])
parts = stored(folder / "model-iris-3")
resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, resource.RLIM_INFINITY))
run(folder, folder / "in", folder / "out", parts)
"""


def test_files_that_must_not_grow_for_real(tmp_path: Path) -> None:
    write_flowers(tmp_path / "in")
    iris().write(tmp_path / "model-iris-3")
    command = [sys.executable, "-c", _LIMITED, str(tmp_path)]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert "OutputError" in child.stderr.splitlines()[-1]
    assert "file too large" in child.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_part_that_is_given_up_in_its_midst_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_file, "_GROUP_ROWS", 100)
    batch = flowers(250).to_batches()[0]

    def give_up() -> None:
        with part_file.PartWriter(Folder(str(tmp_path)), "a.parquet", batch.schema) as writer:
            writer.write(batch)
            assert len(list(tmp_path.iterdir())) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        give_up()
    gc.collect()  # Arrow's writer ends its file when it goes
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("output", ["/sys/out", "/dev/null/out"])
def test_a_place_where_nothing_can_be_written_is_said(tmp_path: Path, output: str) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        run(tmp_path, write_flowers(tmp_path / "in"), output)


def test_the_schema_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    wrong = flowers(10).drop_columns([IRIS[0]])
    pq.write_table(wrong.append_column("prediction", pa.nulls(10)), tmp_path / "in" / "a.parquet")
    with pytest.raises(InputError) as refused:
        run(tmp_path, tmp_path / "in", tmp_path / "out")
    assert "sepal_length" in str(refused.value)
    assert "prediction" in str(refused.value)
    assert leftovers(tmp_path) == []


def test_a_version_that_was_not_verified_is_refused(tmp_path: Path) -> None:
    source = write_flowers(tmp_path / "in")
    parts = iris()
    failed = msgspec.structs.replace(
        parts.certificate, parity=msgspec.structs.replace(parts.certificate.parity, comparisons=())
    )
    with pytest.raises(CertificateError, match="conversion_parity"):
        run(tmp_path, source, tmp_path / "out", type(parts)(parts.onnx, parts.contract, failed))
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (JobRequest("rose", "in", "out"), "no model rose; there is: iris, petal-width"),
        (JobRequest("iris", "in", "out", environment="moon"), "no environment moon"),
        (JobRequest("iris", "in", "out", version="../3"), "version '../3' is none"),
        (JobRequest("iris", "in", "out"), "no version of iris is live in production"),
    ],
)
def test_a_model_that_is_not_there_is_named(
    tmp_path: Path, request_: JobRequest, said: str
) -> None:
    from deploy.home import Home

    with pytest.raises(BatchError, match=said):
        run_job(Home(tmp_path).create(), configuration(), request_)


def test_an_object_storage_holds_a_result_once_the_manifest_is_there(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/out"
    output = Folder(url)
    source = write_flowers(tmp_path / "in")

    def stop(progress: JobProgress) -> None:
        if progress.parts_done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, source, url, watch=stop)
    assert read_manifest(output) is None
    assert {name.partition("/")[0][:7] for name in output.files()} == {"_batch-"}
    manifest = run(tmp_path, source, url)
    assert manifest.resumed_parts == 2
    expected = ["_manifest.json", *(f.path for f in (*manifest.files, *manifest.rejects_files))]
    assert output.files() == sorted(expected)
    assert [row["flower"] for row in rows_of(url)] == [n for n in range(3500) if n % 10 != 9]
    with pytest.raises(OutputError, match="is there already"):
        run(tmp_path, source, url)
    small = write_flowers(tmp_path / "small", PART_ROWS)
    second = run(tmp_path, small, url, iris(2), overwrite=True)
    assert (read_manifest(output), len(rows_of(url))) == (second, 900)
    expected = ["_manifest.json", *(f.path for f in (*second.files, *second.rejects_files))]
    assert output.files() == sorted(expected)


def test_killed_while_files_are_copied_the_next_run_copies_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"memory://{tmp_path.name}/out"
    source = write_flowers(tmp_path / "in")
    run(tmp_path, source, url, iris(2))
    copied = Folder.copy

    def dies(self: Folder, name: str, target: Folder, path: str) -> None:
        if name == "part-00002.parquet":
            raise KeyboardInterrupt
        copied(self, name, target, path)

    with monkeypatch.context() as patched:
        patched.setattr(Folder, "copy", dies)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, source, url, iris(3), overwrite=True)
    assert read_manifest(Folder(url)) is None  # half of it is no result
    manifest = run(tmp_path, source, url, iris(3), overwrite=True)
    assert (manifest.model.version, manifest.resumed_parts) == ("3", 4)
    assert {row["model_version"] for row in rows_of(url)} == {"3"}
    assert len(rows_of(url)) == 3150


def test_a_job_whose_files_another_one_removed_does_not_publish_the_rest(tmp_path: Path) -> None:
    """In object storage there is no lock."""
    url = f"memory://{tmp_path.name}/out"
    source = write_flowers(tmp_path / "in")

    def meanwhile(progress: JobProgress) -> None:
        if progress.parts_done == 2:
            run(tmp_path, source, url, iris(2))

    with pytest.raises(OutputError, match=r"part-00000\.parquet was removed meanwhile"):
        run(tmp_path, source, url, iris(3), watch=meanwhile, overwrite=True)
    assert {row["model_version"] for row in rows_of(url)} == {"2"}
    assert read_manifest(Folder(url)) is not None
    manifest = run(tmp_path, source, url, iris(3), overwrite=True)
    assert (manifest.model.version, len(rows_of(url))) == ("3", 3150)


class Refusing(MemoryFileSystem):
    """A storage whose library has exceptions of its own."""

    protocol = "refusing"

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode == "wb":
            raise type("NoCredentialsError", (Exception,), {})("AKIA123")
        return super().open(path, mode, **options)


def test_what_a_storage_library_raises_is_one_sentence(tmp_path: Path) -> None:
    fsspec.register_implementation("refusing", f"{__name__}.Refusing", clobber=True)
    source = write_flowers(tmp_path / "in")
    with pytest.raises(OutputError, match=r"refusing://b/out: credentials are missing") as refused:
        run(tmp_path, source, "refusing://b/out")
    assert "AKIA123" not in str(refused.value)
    with pytest.raises(OutputError, match="cannot write data://x: this storage cannot do that"):
        run(tmp_path, source, "data://x")


def test_places_of_different_storages_are_apart(tmp_path: Path) -> None:
    fsspec.register_implementation("other", f"{__name__}.Other", clobber=True)
    with fsspec.open("other://box/a.parquet", "wb") as file:
        pq.write_table(flowers(10), file)
    run(tmp_path, "other://box", "memory://box")
    assert len(rows_of("memory://box")) == 9


class Other(MemoryFileSystem):
    """Another storage with the same paths."""

    protocol = "other"
    store: ClassVar[dict[str, Any]] = {}


def test_the_manifest_is_plain_json(tmp_path: Path) -> None:
    run(tmp_path, write_flowers(tmp_path / "in"), tmp_path / "out")
    document = json.loads((tmp_path / "out" / "_manifest.json").read_bytes())
    assert document["rows_in"] == document["rows_out"] + document["rejects"] == 3500
    assert document["model"]["version"] == "3"
