import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from deploy.artifacts import store as module
from deploy.artifacts.blobs import downloaded, name_of, read_blob, sha256, upload_blob, write_blob
from deploy.artifacts.errors import DamagedArtifactError, MissingArtifactError, StoreError
from deploy.artifacts.store import Store
from deploy.processes import free_port

QUICK = {"connect_timeout": 1, "read_timeout": 1, "retries": {"max_attempts": 1}}


def test_what_was_written_is_read_listed_replaced_and_removed(store: Store, tmp_path: Path) -> None:
    assert store.files("a") == []
    store.write("a/one", b"1")
    (tmp_path / "big").write_bytes(b"x" * 3_000_000)
    store.upload("a/b/two", tmp_path / "big")
    store.write("a/one", b"again")
    assert store.read("a/one") == b"again"
    found = store.files("a")
    assert [(item.name, item.size) for item in found] == [("a/b/two", 3_000_000), ("a/one", 5)]
    assert all(abs(item.changed - datetime.now(UTC)) < timedelta(minutes=1) for item in found)
    store.remove("a/one")
    store.remove("a/one")
    with pytest.raises(MissingArtifactError, match="has no a/one"):
        store.read("a/one")
    assert [item.name for item in store.files("a")] == ["a/b/two"]


def test_a_blob_of_other_bytes_is_refused_with_both_digests(store: Store, tmp_path: Path) -> None:
    digest = write_blob(store, b"graph")
    assert read_blob(store, digest) == b"graph"
    store.write(name_of(digest), b"grap")  # as an upload that was cut off would leave it
    for read in (
        lambda: read_blob(store, digest),
        lambda: downloaded(store, digest, 5, tmp_path).__enter__(),
    ):
        with pytest.raises(DamagedArtifactError) as caught:
            read()
        assert digest in str(caught.value)
        assert sha256(b"grap") in str(caught.value)
    (tmp_path / "graph").write_bytes(b"graph")
    assert upload_blob(store, tmp_path / "graph") == digest
    with downloaded(store, digest, 5, tmp_path) as file:
        assert file.read() == b"graph"


def test_more_bytes_than_named_are_not_taken(store: Store, tmp_path: Path) -> None:
    digest = write_blob(store, b"x" * 100_000)
    with pytest.raises(DamagedArtifactError), downloaded(store, digest, 10, tmp_path):
        pass


def test_a_folder_that_is_not_there_is_no_empty_store(tmp_path: Path) -> None:
    store = Store(f"file://{tmp_path}/unmounted")
    for use in (
        lambda: store.read("a"),
        lambda: store.write("a", b""),
        lambda: store.files("a"),
        lambda: store.remove("a"),
    ):
        with pytest.raises(StoreError, match="make the folder, or mount it"):
            use()
    assert not (tmp_path / "unmounted").exists()


@pytest.mark.usefixtures("s3")
def test_a_bucket_that_is_not_there_is_no_empty_store() -> None:
    store = Store("s3://no-such-bucket/x")
    for use in (lambda: store.read("a"), lambda: store.write("a", b""), lambda: store.files("a")):
        with pytest.raises(StoreError, match="there is no bucket no-such-bucket"):
            use()


def test_a_store_that_does_not_answer_is_not_one_that_has_nothing(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(S3FileSystem, "retries", 1)
    monkeypatch.setattr(module, "_S3", QUICK)
    store = Store("s3://slipway/there")
    store.write("a", b"1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    S3FileSystem.clear_instance_cache()
    try:
        gone = Store("s3://slipway/there")
        for use in (lambda: gone.read("a"), lambda: gone.files("a"), lambda: gone.write("b", b"")):
            with pytest.raises(StoreError, match="cannot be used"):
                use()
    finally:
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
        S3FileSystem.clear_instance_cache()
    assert Store("s3://slipway/there").read("a") == b"1"


def test_a_store_that_takes_connections_and_says_nothing_is_given_up(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(S3FileSystem, "retries", 1)
    monkeypatch.setattr(module, "_S3", QUICK)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        S3FileSystem.clear_instance_cache()
        with pytest.raises(StoreError, match="cannot be used"):
            Store("s3://slipway/x").read("a")
        S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nothing://bucket", "no scheme"),
        ("zip::s3://bucket", "no scheme"),
        ("s3://key:secret@bucket/x", "credentials in the artifacts' URL"),
    ],
)
def test_a_url_that_is_none_is_refused_without_its_secret(url: str, words: str) -> None:
    with pytest.raises(StoreError, match=words) as caught:
        Store(url)
    assert "secret" not in str(caught.value)
