import os
import tempfile
from pathlib import Path

import pytest

from deploy.home import Home, HomeError, find_home, write_atomically


def test_the_folders_are_made_for_their_owner_alone_and_may_be_there_already(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path / "h")
    assert home.create() is home
    (home.versions / "kept").touch()
    home.create()
    assert (home.versions / "kept").exists()
    for folder in (home.root, home.run, home.gateway, home.logs, home.dagster, home.versions):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not list(home.run.glob(".probe*"))


def test_an_open_run_folder_is_closed_to_others(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.run.mkdir(mode=0o755)
    home.create()
    assert home.run.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("below", ["file", "file/home"])
def test_a_home_that_cannot_be_made_is_one_sentence_that_says_what_helps(
    below: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HomeError) as caught:
        Home(tmp_path / below).create()
    message = str(caught.value)
    assert message.startswith(f"SLIPWAY_HOME {tmp_path / below} cannot be written: ")
    assert "set SLIPWAY_HOME to a folder of yours" in message
    assert "\n" not in message


def test_a_home_that_may_not_be_written_is_one_sentence() -> None:
    folder = "/proc/sys/slipway" if os.getuid() == 0 else "/slipway"
    with pytest.raises(HomeError, match=f"SLIPWAY_HOME {folder} cannot be written"):
        Home(Path(folder)).create()


def test_a_path_that_is_too_long_for_sockets_is_refused_before_anything_is_made() -> None:
    with tempfile.TemporaryDirectory(prefix="s") as short:
        longest = Path(short) / ("x" * (80 - len(short) - 1))
        Home(longest).create()
        assert len(str(longest / "run" / "supervisor-events.sock").encode()) == 107
        # 80 characters, but more bytes.
        for name in (longest.name + "x", longest.name[:-1] + "é"):
            with pytest.raises(HomeError, match=r"too long for UNIX sockets \(at most 80 bytes\)"):
                Home(Path(short) / name).create()
            assert not (Path(short) / name).exists()


def test_the_home_is_the_variable_s_or_the_checkout_s(tmp_path: Path) -> None:
    assert find_home(tmp_path, {}).root == tmp_path / ".slipway"
    assert find_home(tmp_path, {"SLIPWAY_HOME": ""}).root == tmp_path / ".slipway"
    assert find_home(tmp_path, {"SLIPWAY_HOME": "/there"}).root == Path("/there")
    assert find_home(tmp_path, {"SLIPWAY_HOME": "here"}).root == Path.cwd() / "here"
    assert not (tmp_path / ".slipway").exists()


def test_a_written_file_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data in (b"old", b"new", b""):
        write_atomically(path, data)
        assert path.read_bytes() == data
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_has_the_permissions_that_were_asked_for_whatever_the_old_one_had(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    path.touch(0o644)
    for data in (b"first", b"second"):
        write_atomically(path, data, mode=0o600)
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_reader_that_has_the_old_file_open_keeps_the_old_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with path.open("rb") as reader:
        write_atomically(path, b"new")
        assert reader.read() == b"old"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_bytes_and_nothing_else(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_in_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "nowhere" / "file", b"")


def test_the_key_of_hashed_columns_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    home = Home(tmp_path).create()
    key = home.pii_key.read_text()
    assert len(bytes.fromhex(key)) == 32
    assert home.pii_key.stat().st_mode & 0o777 == 0o600
    home.create()
    assert home.pii_key.read_text() == key
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"pii.key"}
