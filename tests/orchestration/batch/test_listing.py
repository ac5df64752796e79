"""Which files an input has, and where they are."""

import os
from importlib.util import find_spec
from pathlib import Path

import fsspec
import pytest

from orchestration.batch.errors import InputError, OutputError
from orchestration.batch.listing import find_files
from orchestration.batch.storage import open_location, storage_errors


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def found(url: object) -> list[str]:
    return [file.path for file in find_files(str(url))[1]]


def below(folder: Path, *names: str) -> list[str]:
    return [str(folder / name) for name in names]


def test_a_folder_is_read_with_its_subfolders_and_without_hidden_names(tmp_path: Path) -> None:
    shown = ("a.csv", "day=2026-01-01/b.csv.gz", "day=2026-01-02/deep/C.CSV")
    hidden = (".a.csv", "_SUCCESS", "_rejects/a.csv", "day=2026-01-01/.x/a.csv", "sub/_a.csv")
    touch(tmp_path, *shown, *hidden)
    assert found(tmp_path) == below(tmp_path, *shown)
    assert find_files(str(tmp_path))[0] == "csv"


def test_what_lies_in_a_hidden_folder_counts_if_the_folder_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "_in/a.csv", "_in/_b.csv")
    assert found(tmp_path / "_in") == below(tmp_path, "_in/a.csv")
    assert found(tmp_path / "_in" / "_b.csv") == below(tmp_path, "_in/_b.csv")


def test_a_pattern_takes_files_and_whole_folders(tmp_path: Path) -> None:
    touch(tmp_path, "day=1/a.csv", "day=2/b.csv", "week=1/c.csv", "notes.txt")
    assert found(tmp_path / "day=*") == below(tmp_path, "day=1/a.csv", "day=2/b.csv")
    assert found(tmp_path / "**" / "[bc].csv") == below(tmp_path, "day=2/b.csv", "week=1/c.csv")


def test_a_name_that_looks_like_a_pattern_is_a_name(tmp_path: Path) -> None:
    touch(tmp_path, "a[1].csv", "a1.csv")
    assert found(tmp_path / "a[1].csv") == below(tmp_path, "a[1].csv")


def test_links_are_followed_but_not_in_a_circle(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/b.csv", "input/a.csv")
    (tmp_path / "input/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "input/again").symlink_to(tmp_path / "input")
    (tmp_path / "input/z.csv").symlink_to(tmp_path / "elsewhere/b.csv")
    expected = below(tmp_path / "input", "a.csv", "linked/b.csv", "z.csv")
    assert found(tmp_path / "input") == expected


def test_the_same_files_have_the_same_tags_until_one_is_written(tmp_path: Path) -> None:
    touch(tmp_path, "a.csv")
    before = find_files(str(tmp_path))
    assert find_files(f"file://{tmp_path}") == before
    os.utime(tmp_path / "a.csv", ns=(1, 1))
    assert find_files(str(tmp_path)) != before


@pytest.mark.parametrize(
    ("names", "url", "said"),
    [
        ((), "", "there is no file in it"),
        (("_a.csv",), "", "there is no file in it"),
        ((), "a.csv", "a.csv: not there"),
        (("b.csv",), "a*.csv", "no file has such a name"),
        (("a.csv", "b.parquet"), "", "have different formats"),
        (("a.csv", "b.csv.tmp"), "", r"b\.csv\.tmp: neither \.parquet.*such as \*\.parquet"),
        (("a.csv",), "a.csv/b.csv", "a.csv/b.csv: not a directory"),
    ],
)
def test_what_cannot_be_an_input_is_refused(
    tmp_path: Path, names: tuple[str, ...], url: str, said: str
) -> None:
    touch(tmp_path, *names)
    with pytest.raises(InputError, match=said):
        found(tmp_path / url)


def test_a_link_to_nothing_and_a_pipe_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").symlink_to(tmp_path / "gone.csv")
    with pytest.raises(InputError, match=r"a\.csv: not there"):
        found(tmp_path)
    (tmp_path / "a.csv").unlink()
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"a\.csv: not a regular file"):
        found(tmp_path)


@pytest.mark.parametrize("url", ["memory://box/in", "memory:///box/in/", "memory://box/i*/*.csv"])
def test_addresses_in_object_storage_can_be_opened_again(url: str) -> None:
    memory = fsspec.filesystem("memory")
    for name in ("a.csv", "day=1/b.csv", "_x.csv"):
        memory.pipe(f"/box/in/{name}", b"x")
    try:
        addresses = found(url)
        paths = [open_location(address)[1] for address in addresses]
        expected = ["/box/in/a.csv", "/box/in/day=1/b.csv"]
        assert paths == (expected[:1] if "*" in url else expected)
        assert all(address.startswith("memory://") for address in addresses)
    finally:
        memory.rm("/box", recursive=True)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nowhere://x", "nowhere://x: unknown scheme 'nowhere'"),
        ("sftp://me:hunter2@host/a.csv", "sftp://host/a.csv: credentials in a URL"),
        ("https://host/a.csv?X-Sig=hunter2", "https://host/a.csv: credentials in a URL"),
        ("zip://a.csv::s3://bucket/a.zip", r"a URL inside a URL \(::\)"),
        ("hdfs://host/a", "hdfs://host/a: "),
        ("reference://a", "reference://a: "),
    ],
)
def test_a_location_that_cannot_be_opened_says_why_without_secrets(url: str, said: str) -> None:
    with pytest.raises(OutputError, match=said) as refused:
        open_location(url, OutputError)
    assert "hunter2" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_pattern_may_begin_an_address() -> None:
    assert open_location("memory://[ab]*/c.csv")[1] == "/[ab]*/c.csv"


@pytest.mark.skipif(find_spec("gcsfs") is not None, reason="the package is there")
def test_a_package_that_is_missing_is_named() -> None:
    with pytest.raises(InputError, match=r"gs://bucket/a\.csv: a package is missing: .*gcsfs"):
        open_location("gs://bucket/a.csv")


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (FileNotFoundError(2, "x"), "not there"),
        (PermissionError("key AKIA123 was refused"), "no permission, or wrong credentials"),
        (OSError(28, "x"), "no space left on device"),
        (type("NoCredentialsError", (Exception,), {})("AKIA123"), "credentials are missing"),
        (OSError("GET https://host/a?sig=AKIA123 failed"), "GET https://host/a failed"),
    ],
)
def test_what_storage_says_becomes_one_sentence(problem: Exception, said: str) -> None:
    with pytest.raises(OutputError) as refused, storage_errors("s3://b/a", OutputError):
        raise problem
    assert str(refused.value).startswith(f"s3://b/a: {said}")
    assert "AKIA123" not in str(refused.value)
