"""`python -m deploy.artifacts`, in this process and, once, as an init container runs it."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.artifacts import upkeep
from deploy.artifacts.__main__ import main
from deploy.artifacts.bentos import bento_folder, is_intact
from deploy.artifacts.blobs import name_of, write_blob
from deploy.artifacts.pointers import BentoPointer, bento_name, read_pointer
from deploy.artifacts.store import Store
from deploy.artifacts.versions import published
from deploy.home import Home
from deploy.ledger import Ledger
from deploy.versions import VersionFolder, built_release
from tests.deploy.control.controls import build
from tests.deploy.releases import change

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, home: Home, store: Store) -> None:
    monkeypatch.setenv("SLIPWAY_HOME", str(home.root))
    monkeypatch.setenv("SLIPWAY_ARTIFACTS_URL", store.url)
    monkeypatch.delenv("SLIPWAY_LEDGER_URL", raising=False)
    home.root.mkdir()


def test_fetch_puts_the_bento_where_bentoml_finds_it(
    home: Home, store: Store, tmp_path: Path
) -> None:
    release = build(home, 3)
    into = tmp_path / "pod"
    asked = ["--bento", release.tag, "--digest", release.bundle.digest, "--into", str(into)]
    command = [sys.executable, "-m", "deploy.artifacts", "fetch", "--url", store.url, *asked]
    for _ in range(2):  # a container that is started again
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        assert done.stdout == f"{bento_folder(into, release.tag)}\n"
        assert done.stderr == ""
    assert is_intact(bento_folder(into, release.tag), release.tag, release.bundle.digest)


def test_fetch_fails_in_one_line(home: Home, store: Store, tmp_path: Path, capsys: Capture) -> None:
    release = build(home, 3)
    into = str(tmp_path / "pod")
    wrong = ["fetch", "--bento", release.tag, "--digest", "0" * 64, "--into", into]
    assert main(wrong) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"{store.url} has no Bento with digest {'0' * 64} ({release.tag})\n"
    gone = f"file://{tmp_path}/gone"
    right = ["fetch", "--bento", release.tag, "--digest", release.bundle.digest, "--into", into]
    assert main([*right, "--url", gone]) == 1
    assert capsys.readouterr().err == f"{gone} cannot be used: make the folder, or mount it\n"
    assert not os.path.exists(into)


def test_without_a_url_the_command_says_where_to_set_it(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.delenv("SLIPWAY_ARTIFACTS_URL")
    assert main(["verify"]) == 1
    assert "set SLIPWAY_ARTIFACTS_URL" in capsys.readouterr().err


def test_publish_brings_a_home_from_before_and_mends_what_is_damaged(
    home: Home, other: Home, store: Store, capsys: Capture
) -> None:
    release = build(Home(home.root), 3)
    assert main(["publish"]) == 0
    assert built_release(other, "iris", 3) == release
    pointer = published(store, "iris", "3")
    assert pointer is not None
    digest = pointer.files["certificate.json"]
    store.write(name_of(digest), b"damaged")
    assert main(["verify"]) == 1
    assert digest in capsys.readouterr().err
    assert main(["publish"]) == 0
    assert main(["verify"]) == 0
    assert published(store, "iris", "3") == pointer


def test_verify_names_all_that_is_missing_or_damaged(
    home: Home, store: Store, capsys: Capture
) -> None:
    one, two = build(home, 3), build(home, 4)
    assert main(["verify"]) == 0
    store.remove(bento_name(one.bundle.digest))
    bento = read_pointer(store, bento_name(two.bundle.digest), BentoPointer)
    assert bento is not None
    store.remove(name_of(bento.tar_sha256))
    assert main(["verify"]) == 1
    first, second = sorted(capsys.readouterr().err.splitlines())
    assert two.tag in first
    assert f"its Bento, {one.bundle.digest}, was not published" in second


def test_prune_removes_what_nobody_names_once_it_is_old(
    home: Home,
    store: Store,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replaced, current = build(home, 3), build(home, 4)
    folder = VersionFolder.of(home, "iris", 3)
    folder.write_bento(VersionFolder.of(home, "iris", 4).bento())  # another one in its place
    orphan = name_of(write_blob(store, b"of a publisher that was killed"))
    assert main(["prune"]) == 0
    assert capsys.readouterr().out == ""

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + timedelta(hours=25)

    monkeypatch.setattr(upkeep, "datetime", Tomorrow)
    assert main(["prune"]) == 0
    said = capsys.readouterr().out
    assert f"would remove {orphan}" in said
    assert f"would remove {bento_name(replaced.bundle.digest)}" in said
    assert current.bundle.digest not in said
    assert store.read(orphan)
    with Ledger(home.ledger_url) as ledger:  # it was deployed: a rollback may want it
        ledger.record(change(ledger.state("staging", "iris"), replaced.live()))
    assert main(["prune", "--delete"]) == 0
    assert bento_name(replaced.bundle.digest) not in capsys.readouterr().out
    assert orphan not in [item.name for item in store.files("blobs")]
    assert main(["verify"]) == 0
    assert main(["prune"]) == 0
    assert capsys.readouterr().out == ""


def test_prune_removes_nothing_where_a_document_cannot_be_read(
    home: Home, store: Store, capsys: Capture
) -> None:
    build(home, 3)
    store.write("versions/iris/4.json", b"{")
    assert main(["prune", "--delete", "--older-than-hours", "0"]) == 1
    assert "is damaged" in capsys.readouterr().err
    assert built_release(home, "iris", 3).tag
