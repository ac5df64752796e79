"""The Ray engine, on a real cluster of one machine and on a Ray of its own."""

import importlib.util
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from deploy.processes import free_port
from orchestration.batch import job
from orchestration.batch.documents import Plan, Receipt
from orchestration.batch.engines import ray_process
from orchestration.batch.engines.local import LocalEngine
from orchestration.batch.engines.ray import RayEngine
from orchestration.batch.errors import EngineError, InputError
from orchestration.batch.job import JobRequest
from orchestration.batch.planning import make_plan
from orchestration.batch.publish import read_manifest
from orchestration.batch.storage_folder import Folder
from orchestration.batch.work import Work
from serving_config.batch import BatchLimits
from tests.orchestration.batch import churn
from tests.orchestration.batch.faults import Deadly, Stuck
from tests.orchestration.batch.jobs import (
    configuration,
    iris,
    leftovers,
    release,
    require_whole,
    run,
    write_flowers,
)
from tests.orchestration.batch.ray_cluster import ROOT, cluster, title, workers

ROWS = 3500  # four parts


@pytest.fixture(scope="module")
def running() -> Iterator[str]:
    with cluster(cpus=2) as address:
        yield address


@pytest.fixture
def address(running: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the engine finds the cluster."""
    monkeypatch.setenv("RAY_ADDRESS", running)
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    return running


def plan_of(source: Path) -> Plan:
    request = JobRequest("iris", str(source), "out")
    return make_plan(release(iris()), request, configuration(), source / "features")


def score(plan: Plan, work: Work, limits: BatchLimits | None = None, done: Any = None) -> set[int]:
    """Which parts Ray did."""
    found: list[Receipt] = []
    work.begin(plan)
    engine = RayEngine(limits or BatchLimits(threads=2))
    engine.run(plan, plan.parts, iris().contract, iris().onnx, work, done or found.append)
    return {receipt.part for receipt in found}


_CHILD = """
import dataclasses, os, signal, sys
from pathlib import Path
import psutil
from orchestration.batch import job
from tests.orchestration.batch import churn
from tests.orchestration.batch.faults import Stuck
from tests.orchestration.batch.jobs import run, stored

folder, parts_done = Path(sys.argv[1]), int(sys.argv[2])
work_of = job.work_of
marks = str(folder / "marks")
job.work_of = lambda *where: Stuck(
    **dataclasses.asdict(work_of(*where)), marks=marks, parts=parts_done
)

def watch(progress):
    if progress.parts_done == parts_done:
        print(*(process.pid for process in psutil.Process().children(recursive=True)), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

run(folder, folder / "in", folder / "out", stored(folder / "model-iris-3"), watch, engine="ray")
"""


def kill_job(folder: Path, parts_done: int) -> list[psutil.Process]:
    """Run it in a process that dies when so many parts are done, and no more; those of what it had
    started that still run."""
    command = [sys.executable, "-c", _CHILD, str(folder), str(parts_done)]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert child.returncode == -signal.SIGKILL, child.stderr
    started = [int(pid) for pid in child.stdout.split()]
    assert started
    return [psutil.Process(pid) for pid in started if psutil.pid_exists(pid)]


def require_ended(processes: Iterable[psutil.Process]) -> None:
    """Within 20 s. A child of nobody may remain a zombie: that is the machine's affair."""
    deadline = time.monotonic() + 20
    while alive := [name for process in processes if (name := title(process))]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.05)


def prepare(folder: Path) -> Path:
    iris().write(folder / "model-iris-3")
    return write_flowers(folder / "in", ROWS)


def test_killed_at_several_points_it_goes_on_and_writes_what_the_local_engine_writes(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out, died = prepare(tmp_path), tmp_path / "out", tmp_path / "died"
    for parts_done in (1, 2):
        kill_job(tmp_path, parts_done)
        assert read_manifest(Folder(str(out))) is None
        require_ended(workers())
    (work,) = tmp_path.glob(".out.batch-*")
    same = tmp_path / work.name.replace("out", "same")
    shutil.copytree(work, same)
    shutil.rmtree(same / "receipts")  # so that the local engine does every part of the same plan
    of_job = job.work_of
    monkeypatch.setattr(
        job, "work_of", lambda *where: Deadly(**asdict(of_job(*where)), marks=str(died))
    )
    manifest = run(tmp_path, source, out, engine="ray")
    assert len(list(died.iterdir())) == 1  # a worker, whose part another one did
    assert require_whole(out, ROWS) == manifest
    assert (manifest.engine, manifest.resumed_parts) == ("ray", 2)
    local = run(tmp_path, source, tmp_path / "same")
    assert (local.engine, local.resumed_parts) == ("local", 0)
    assert (local.files, local.rejects_files) == (manifest.files, manifest.rejects_files)
    assert local.rejects_files
    for file in (*local.files, *local.rejects_files):
        assert (out / file.path).read_bytes() == (tmp_path / "same" / file.path).read_bytes()
    assert leftovers(tmp_path) == []


def test_joined_rows_are_the_same_on_both_engines(tmp_path: Path, address: str) -> None:
    pq.write_table(churn.table(churn.ROWS), tmp_path / "in.parquet")
    parts, found = churn.model(), {}
    request = JobRequest("mixed", str(tmp_path / "in.parquet"), "out")
    with churn.feature_home(tmp_path / "features") as home:
        plan = make_plan(release(parts), request, configuration(), home)
        assert plan.join is not None
        for engine in (LocalEngine(1), RayEngine(BatchLimits())):
            name = type(engine).__name__
            work = Work(str(tmp_path / name), str(home))
            work.begin(plan)
            engine.run(plan, plan.parts, parts.contract, parts.onnx, work, lambda _: None)
            found[name] = {file: work.result.read(file) for file in work.result.files()}
    assert found["RayEngine"] == found["LocalEngine"]
    assert sorted(found["RayEngine"]) == ["_rejects/part-00000.parquet", "part-00000.parquet"]


def stuck(folder: Path) -> Stuck:
    return Stuck(str(folder / "work"), marks=str(folder / "marks"))


def test_a_part_that_kills_every_worker_ends_the_job(tmp_path: Path, address: str) -> None:
    write_flowers(tmp_path / "in", 1000)
    work = Deadly(str(tmp_path / "work"), marks=str(tmp_path / "died"), deaths=1000)
    plan = plan_of(tmp_path / "in")
    with pytest.raises(EngineError, match=r"worker died 4 times with part 0.*memory"):
        score(plan, work)
    assert not work.receipts(plan)


def test_a_job_without_progress_ends_with_an_error_and_without_its_workers(
    tmp_path: Path, address: str
) -> None:
    write_flowers(tmp_path / "in", ROWS)
    plan, work = (
        plan_of(tmp_path / "in"),
        stuck(tmp_path),
    )
    limits = BatchLimits(threads=2, part_timeout_seconds=3)
    with pytest.raises(EngineError, match=r"no part was done in 3 seconds.*CPUs.*are free"):
        score(plan, work, limits)
    assert len(work.receipts(plan)) <= 1
    require_ended(workers())


def test_interrupted_it_leaves_no_worker(tmp_path: Path, address: str) -> None:
    write_flowers(tmp_path / "in", ROWS)
    plan, work = (
        plan_of(tmp_path / "in"),
        stuck(tmp_path),
    )

    def interrupt(_: Receipt) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(plan, work, done=interrupt)
    require_ended(workers())
    assert len(work.receipts(plan)) == 1


def test_an_error_of_a_part_arrives_as_itself(tmp_path: Path, address: str) -> None:
    source = write_flowers(tmp_path / "in", 1000)
    plan = plan_of(source)
    write_flowers(source, 1000, seed=1)
    with pytest.raises(InputError, match=r"a\.parquet: changed since") as raised:
        score(plan, Work(str(tmp_path / "work")))
    assert "ray" not in str(raised.value).replace(str(tmp_path), "").lower()


def test_a_killed_job_takes_its_own_ray_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    prepare(tmp_path)
    require_ended(kill_job(tmp_path, 1))
    assert read_manifest(Folder(str(tmp_path / "out"))) is None
    manifest = run(tmp_path, tmp_path / "in", tmp_path / "out")  # and any engine can go on
    assert require_whole(tmp_path / "out", ROWS) == manifest
    assert manifest.resumed_parts == 1


class Own:
    """A Ray of the job's own, looked at when the first part is done."""

    def __init__(self) -> None:
        self.before = set(psutil.Process().children(recursive=True))  # a cluster of other tests
        self.family: set[psutil.Process] = set()
        self.driver: psutil.Process | None = None
        self.listening: set[str] = set()
        self.folders: set[str] = set()

    def look(self, _: Receipt) -> None:
        if self.family:
            return
        self.family = set(psutil.Process().children(recursive=True)) - self.before
        for process in self.family:
            self.listening.update(listeners(process))
            self.folders.update(re.findall(r"--temp-dir=(\S+)", title(process)))
            if "ray_driver" in title(process):
                self.driver = process

    def require_gone(self) -> None:
        assert len(self.family) > 5
        assert [title(process) for process in self.family if title(process)] == []
        assert len(self.folders) == 1
        assert not Path(*self.folders).exists()


def test_a_driver_that_is_killed_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    write_flowers(tmp_path / "in", ROWS)
    own = Own()

    def kill(receipt: Receipt) -> None:
        own.look(receipt)
        assert own.driver is not None
        own.driver.kill()

    with pytest.raises(EngineError, match=r"its driver was killed \(SIGKILL\)"):
        score(
            plan_of(tmp_path / "in"),
            stuck(tmp_path),
            done=kill,
        )
    own.require_gone()


def test_a_ray_of_its_own_ends_on_two_cores_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    thread, own = threading.current_thread(), Own()

    def watch(receipt: Receipt) -> None:
        assert threading.current_thread() is thread
        own.look(receipt)

    write_flowers(tmp_path / "in", ROWS)
    score(plan_of(tmp_path / "in"), Work(str(tmp_path / "work")), done=watch)
    own.require_gone()
    assert own.listening
    assert own.listening <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    assert capfd.readouterr() == ("", "")


def listeners(process: psutil.Process) -> set[str]:
    try:
        connections = process.net_connections()
    except psutil.Error:
        return set()
    return {found.laddr.ip for found in connections if found.status == psutil.CONN_LISTEN}


def test_a_cluster_that_is_not_there_is_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    write_flowers(tmp_path / "in")
    with pytest.raises(EngineError, match=r"no Ray cluster at RAY_ADDRESS=127.* refused$"):
        run(tmp_path, tmp_path / "in", tmp_path / "out", engine="ray")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "nowhere", ":6379", "host:port"])
def test_an_address_that_is_none_of_a_cluster_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    write_flowers(tmp_path / "in")
    with pytest.raises(EngineError, match=f"RAY_ADDRESS={address}: give host:port"):
        score(plan_of(tmp_path / "in"), Work(str(tmp_path / "work")))


def test_something_that_listens_and_is_no_ray_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_process, "_CONNECT", 2.0)
    write_flowers(tmp_path / "in")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(EngineError, match=rf"no Ray cluster answers at RAY_ADDRESS={address}"):
            score(plan_of(tmp_path / "in"), Work(str(tmp_path / "work")))


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    write_flowers(tmp_path / "in")
    with pytest.raises(EngineError, match=r"not installed: .*\.\[ray\]"):
        run(tmp_path, tmp_path / "in", tmp_path / "out", engine="ray")
