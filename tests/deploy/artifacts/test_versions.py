"""Versions on their way from one machine to another."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bentos.model_server.bundle import bento_digest
from deploy.artifacts.bentos import bento_folder, fetch_bento, publish_bento
from deploy.artifacts.blobs import name_of, sha256
from deploy.artifacts.errors import DamagedArtifactError, MissingArtifactError, StoreError
from deploy.artifacts.pointers import BentoPointer, VersionPointer, bento_name, read_pointer
from deploy.artifacts.store import Store
from deploy.artifacts.versions import published
from deploy.home import Home
from deploy.predictions.labels import predicts_numbers
from deploy.release import ReleaseError, bring
from deploy.versions import (
    MissingFileError,
    VersionFolder,
    built_labels,
    built_release,
    live_release,
)
from tests.deploy.control.controls import build
from tests.deploy.releases import certificate, contract, http


def versions(home: Home) -> VersionFolder:
    return VersionFolder.of(home, "iris", 3)


def test_what_one_machine_wrote_another_one_reads(home: Home, other: Home) -> None:
    made = contract(version=3)
    versions(home).write_export(b"graph", made)
    versions(home).write_certificate(certificate(made, smoke=http()))
    assert versions(other).onnx_bytes() == b"graph"
    assert (versions(other).contract(), versions(other).certificate()) == (
        made,
        certificate(made, smoke=http()),
    )
    folder = versions(other).fetched()
    assert {path.name for path in folder.iterdir()} == {
        "model.onnx",
        "contract.json",
        "certificate.json",
    }
    assert not predicts_numbers(other, "iris")


def test_the_other_machine_reads_what_is_new_and_not_what_it_has(home: Home, other: Home) -> None:
    made = contract(version=3)
    versions(home).write_export(b"graph", made)
    versions(home).write_certificate(certificate(made))
    versions(other).fetched()
    versions(home).write_certificate(certificate(made, smoke=http()))
    assert versions(other).certificate().http == http()
    (other.versions / "iris" / "3" / "model.onnx").write_bytes(b"changed here")
    assert versions(other).onnx_bytes() == b"graph"


def test_a_new_export_takes_the_old_proof_from_every_machine(home: Home, other: Home) -> None:
    versions(home).write_export(b"graph", contract(version=3))
    versions(home).write_certificate(certificate(contract(version=3)))
    versions(other).fetched()
    versions(other).write_export(b"another", contract(version=3))
    for place in (home, other):
        with pytest.raises(MissingFileError, match="conversion_parity"):
            versions(place).certificate()


def test_the_same_export_on_an_empty_machine_keeps_the_proof(home: Home, other: Home) -> None:
    proved = certificate(contract(version=3), smoke=http())
    versions(home).write_export(b"graph", contract(version=3))
    versions(home).write_certificate(proved)
    versions(other).write_export(b"graph", contract(version=3))
    assert versions(other).write_parity(certificate(contract(version=3))) == proved


def test_a_release_is_built_here_and_deployed_there(home: Home, other: Home) -> None:
    release = build(home, 3)
    assert built_labels(other, "iris") == ["3"]
    assert built_release(other, "iris", 3) == release
    shutil.rmtree(other.bentoml)
    assert live_release(other, release.live()) == release
    assert bento_digest(bento_folder(other.bentoml, release.tag)) == release.bundle.digest


def test_a_bento_that_was_changed_here_is_fetched_anew(home: Home, other: Home) -> None:
    release = build(home, 3)
    built_release(other, "iris", 3)
    folder = bento_folder(other.bentoml, release.tag)
    (folder / "src" / "model" / "model.onnx").write_bytes(b"changed")
    assert built_release(other, "iris", 3) == release
    assert (folder / "src" / "model" / "model.onnx").read_bytes() == b"graph 3"
    assert list((other.bentoml / ".fetched").iterdir()) == []


def test_two_may_fetch_at_once(home: Home, other: Home, store: Store) -> None:
    release = build(home, 3)
    barrier = Barrier(4)

    def fetch(_: int) -> Path:
        barrier.wait(30)
        return fetch_bento(store, release.tag, release.bundle.digest, other.bentoml)

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(fetch, range(4))) == {bento_folder(other.bentoml, release.tag)}
    assert bring(other, release.tag, release.bundle.digest).bundle == release.bundle


def test_a_damaged_file_is_refused_with_both_digests_and_not_kept(
    home: Home, other: Home, store: Store
) -> None:
    release = build(home, 3)
    pointer = published(store, "iris", "3")
    assert pointer is not None
    digest = pointer.files["certificate.json"]
    store.write(name_of(digest), b"{}")
    with pytest.raises(DamagedArtifactError) as caught:
        versions(other).certificate()
    assert digest in str(caught.value)
    assert sha256(b"{}") in str(caught.value)
    assert not (other.versions / "iris" / "3" / "certificate.json").exists()
    bento = read_pointer(store, bento_name(release.bundle.digest), BentoPointer)
    assert bento is not None
    store.write(name_of(bento.tar_sha256), store.read(name_of(bento.tar_sha256))[:-700])
    with pytest.raises(ReleaseError, match=rf"must not be deployed: .*not {bento.tar_sha256}"):
        bring(other, release.tag, release.bundle.digest)
    assert not bento_folder(other.bentoml, release.tag).exists()


def test_a_bento_that_is_nowhere_and_a_store_that_is_gone_are_two_things(
    home: Home, other: Home, tmp_path: Path
) -> None:
    release = build(home, 3)
    with pytest.raises(ReleaseError, match="has no Bento with digest"):
        bring(other, release.tag, release.bundle.digest[:12] + "0" * 52)
    with pytest.raises(MissingFileError, match="not built"):
        built_release(other, "iris", 4)
    gone = Home(other.root, artifacts_url=f"file://{tmp_path}/no-such-folder")
    with pytest.raises(StoreError, match="cannot be used"):
        bring(gone, release.tag, release.bundle.digest)
    with pytest.raises(StoreError, match="cannot be used"):
        built_release(gone, "iris", 3)


def test_another_bento_under_the_digest_is_refused(home: Home, other: Home, store: Store) -> None:
    one, two = build(home, 3).bundle.digest, build(home, 4)
    store.write(bento_name(one), store.read(bento_name(two.bundle.digest)))
    with pytest.raises(DamagedArtifactError, match=f"is {two.tag}"):
        fetch_bento(store, f"iris:3-fp32-{one[:12]}", one, other.bentoml)
    pointer = read_pointer(store, bento_name(one), BentoPointer)
    assert pointer is not None
    forged = msgspec.structs.replace(pointer, version=f"3-fp32-{one[:12]}")
    store.write(bento_name(one), msgspec.json.encode(forged))
    with pytest.raises(DamagedArtifactError, match=f"has digest {two.bundle.digest}, not {one}"):
        fetch_bento(store, f"iris:3-fp32-{one[:12]}", one, other.bentoml)
    assert not (other.bentoml / "bentos").exists()


@pytest.mark.parametrize(
    "manifest",
    [
        {"service": "os:system", "envs": []},
        {"service": "bentos.x", "envs": [{"name": "PYTHONPATH", "value": "x"}]},
        {"service": "bentos.x", "envs": [], "name": "other"},
    ],
)
def test_a_bento_that_would_start_something_else_is_refused(
    manifest: dict[str, object], home: Home, store: Store
) -> None:
    release = build(home, 3)
    path = bento_folder(home.bentoml, release.tag) / "bento.yaml"
    path.write_bytes(msgspec.json.encode(msgspec.json.decode(path.read_bytes()) | manifest))
    with pytest.raises(DamagedArtifactError, match=r"bento\.yaml is not that of"):
        publish_bento(store, home.bentoml, release.tag, release.bundle.digest)


def test_without_a_store_nothing_is_published(tmp_path: Path) -> None:
    home = Home(tmp_path / "one")
    release = build(home, 3)
    assert built_release(home, "iris", 3) == release
    assert os.listdir(tmp_path) == ["one"]


def test_a_version_from_before_the_store_counts_until_it_is_published(
    home: Home, other: Home, store: Store
) -> None:
    alone = Home(home.root)
    release = build(alone, 3)
    assert built_release(home, "iris", 3) == release
    versions(home).write_certificate(release.certificate)
    assert published(store, "iris", "3") == VersionPointer(
        1, {name: sha256(data) for name, data in versions(home)._files.here().items()}
    )
    assert versions(other).certificate() == release.certificate


names = st.sampled_from(["model.onnx", "contract.json", "certificate.json", "bento.json"])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.booleans(), names, st.binary(max_size=3)), max_size=8))
def test_any_sequence_of_writes_reads_the_same_on_both_machines(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[bool, str, bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("both")
    (folder / "shared").mkdir()
    homes = [Home(folder / name, artifacts_url=f"file://{folder}/shared") for name in "ab"]
    wanted: dict[str, bytes] = {}
    for number, (second, name, data) in enumerate(writes):
        files = versions(homes[second])._files
        files.write({name: data}, ("bento.json",) if number % 3 == 2 else ())
        if number % 3 == 2:
            wanted.pop("bento.json", None)
        wanted[name] = data
        for home in homes:
            seen = {item: versions(home)._files.read(item) for item in wanted}
            assert seen == wanted


@settings(deadline=None, max_examples=40)
@given(st.binary(max_size=200) | st.recursive(st.none(), st.lists).map(msgspec.json.encode))
def test_a_document_that_is_none_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    store = Store(f"file://{folder}")
    store.write("versions/iris/3.json", data)
    with pytest.raises(DamagedArtifactError, match="is damaged"):
        published(store, "iris", "3")


@pytest.mark.parametrize("name", ["../x.json", "a/b.json", ".json", "model", "x" * 80 + ".json"])
def test_a_document_cannot_name_a_file_outside_of_the_folder(name: str, tmp_path: Path) -> None:
    store = Store(f"file://{tmp_path}")
    document = {"generation": 1, "files": {name: "0" * 64}}
    store.write("versions/iris/3.json", msgspec.json.encode(document))
    with pytest.raises(DamagedArtifactError):
        published(store, "iris", "3")
    with pytest.raises(DamagedArtifactError):
        published(store, "../iris", "3")


def test_what_the_store_does_not_have_is_missing_there(home: Home, store: Store) -> None:
    build(home, 3)
    pointer = published(store, "iris", "3")
    assert pointer is not None
    store.remove(name_of(pointer.files["bento.json"]))
    (home.versions / "iris" / "3" / "bento.json").unlink()
    with pytest.raises(MissingArtifactError):
        versions(home).bento()
