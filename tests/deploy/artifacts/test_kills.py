"""Whoever publishes or fetches is killed before each of its operations; then it is done again."""

import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from deploy.artifacts.bentos import bento_folder, fetch_bento, is_intact, publish_bento
from deploy.artifacts.errors import MissingArtifactError
from deploy.artifacts.store import Store
from deploy.artifacts.upkeep import problems
from deploy.home import Home
from deploy.release import Release
from deploy.versions import MissingFileError, VersionFolder
from tests.deploy.control.controls import build
from tests.deploy.predictions.crashes import Crash, crash_at
from tests.deploy.releases import certificate, contract

OLD, NEW = (b"old", contract(version=3)), (b"new", contract(version=3))


def version(home: Home) -> VersionFolder:
    return VersionFolder.of(home, "iris", 3)


def seen(root: Path, store: Store) -> tuple[bytes, bool]:
    """What an empty machine finds: the graph, and whether it is proved."""
    shutil.rmtree(root, ignore_errors=True)
    folder = version(Home(root, artifacts_url=store.url))
    try:
        folder.certificate()
        return folder.onnx_bytes(), True
    except MissingFileError:
        return folder.onnx_bytes(), False


def test_a_killed_publisher_leaves_the_old_version_or_the_new_one(tmp_path: Path) -> None:
    states = set()
    for operation in range(100):
        folder = tmp_path / str(operation)
        (folder / "shared").mkdir(parents=True)
        store = Store(f"file://{folder}/shared")
        home = Home(folder / "home", artifacts_url=store.url)
        version(home).write_export(*OLD)
        version(home).write_certificate(certificate(OLD[1]))
        with suppress(Crash), crash_at(operation) as crash:
            version(home).write_export(*NEW)
        state = seen(folder / "other", store)
        assert list(problems(store)) == []
        states.add(state)
        version(home).write_export(*NEW)
        assert seen(folder / "other", store) == (b"new", False)
        if not crash.reached:
            break
    assert operation > 10
    assert states == {(b"old", True), (b"new", False)}


def test_a_publisher_killed_at_an_upload_leaves_nothing_or_all(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = build(Home(tmp_path / "home"), 3)
    calls = []
    for at in range(10):
        store = Store(f"s3://slipway/{tmp_path.name}-{at}")
        with monkeypatch.context() as patch:
            calls.clear()
            for name in ("pipe_file", "put_file"):
                patch.setattr(store._fs, name, dying(getattr(store._fs, name), calls, at))
            with suppress(Crash):
                publish_bento(store, tmp_path / "home/bentoml", release.tag, release.bundle.digest)
        arguments = (release.tag, release.bundle.digest, tmp_path / str(at))
        if len(calls) <= at:
            break
        with pytest.raises(MissingArtifactError):
            fetch_bento(store, *arguments)
        publish_bento(store, tmp_path / "home/bentoml", release.tag, release.bundle.digest)
        fetch_bento(store, *arguments)
    assert at == 2


def dying(call, calls, at):  # type: ignore[no-untyped-def]
    """From the call with the number `at` on, nothing happens any more."""

    def die(*arguments, **named):  # type: ignore[no-untyped-def]
        calls.append(arguments)
        if len(calls) > at:
            raise Crash
        return call(*arguments, **named)

    return die


@pytest.mark.parametrize("damaged", [False, True])
def test_a_killed_fetch_leaves_a_whole_bento_or_none(damaged: bool, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    store = Store(f"file://{tmp_path}/shared")
    release = build(Home(tmp_path / "home", artifacts_url=store.url), 3)
    for operation in range(200):
        home = tmp_path / str(operation)
        folder = bento_folder(home, release.tag)
        if damaged:
            fetch(store, release, home)
            (folder / "src" / "model" / "model.onnx").write_bytes(b"changed")
        with suppress(Crash), crash_at(operation) as crash:
            fetch(store, release, home)
        whole = is_intact(folder, release.tag, release.bundle.digest)
        assert whole or damaged or not folder.exists()
        fetch(store, release, home)
        assert is_intact(folder, release.tag, release.bundle.digest)
        if not crash.reached:
            break
    assert operation > 10


def fetch(store: Store, release: Release, home: Path) -> None:
    fetch_bento(store, release.tag, release.bundle.digest, home)
