"""The drop folder: only what is complete is taken, each file once, and nothing is lost."""

import os
import time
from hashlib import sha256
from pathlib import Path

import pytest

from deploy.home import Home
from orchestration.batch.days import day_places
from orchestration.batch.drop import (
    SETTLED_SECONDS,
    complete_files,
    drop_folder,
    input_folder,
    move_files,
)
from serving_config.batch import Batch
from serving_config.schema import Model

DAY = "2026-11-21"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def drop(home: Home, name: str, data: bytes = b"id\n1\n") -> Path:
    path = drop_folder(home, "iris") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def later(seconds: float = SETTLED_SECONDS + 1) -> float:
    return time.time() + seconds


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_without_a_drop_folder_there_is_nothing(home: Home) -> None:
    assert complete_files(home, "iris", later()) == []
    assert move_files(home, "iris", DAY, later()) == []


def test_a_file_that_was_just_written_to_waits(home: Home) -> None:
    path = drop(home, "a.csv")
    os.utime(path, (0, 0))  # as `cp -p` sets it: it says nothing of now
    assert complete_files(home, "iris", time.time()) == []
    assert names(complete_files(home, "iris", later())) == ["a.csv"]


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.feather"])
def test_a_file_without_its_end_waits_until_nobody_will_write_it(home: Home, name: str) -> None:
    end = b"PAR1" if name.endswith("parquet") else b"ARROW1"
    path = drop(home, name, b"rows" + end[:-1])
    assert complete_files(home, "iris", later()) == []
    assert names(complete_files(home, "iris", later(3600))) == [name]  # its run will say so
    path.write_bytes(b"rows" + end)
    assert names(complete_files(home, "iris", later())) == [name]


@pytest.mark.parametrize("name", [".a.csv", "_a.csv", "a.csv.tmp", "a.tmp", "a.txt", "a.csv.part"])
def test_other_names_are_let_be(home: Home, name: str) -> None:
    path = drop(home, name)
    assert move_files(home, "iris", DAY, later()) == []
    assert path.exists()


def test_a_file_that_cannot_be_read_waits_and_holds_up_none(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.parquet", "b.parquet"):
        drop(home, name, b"PAR1")
    real = Path.open

    def refused(path: Path, *arguments: str) -> object:  # root may read everything
        if path.name == "a.parquet":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments)

    monkeypatch.setattr(Path, "open", refused)
    assert names(complete_files(home, "iris", later())) == ["b.parquet"]
    # Then the run says so.
    assert names(complete_files(home, "iris", later(3600))) == ["a.parquet", "b.parquet"]


def test_links_and_subfolders_are_let_be(home: Home, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("id\n1\n")
    folder = drop(home, "sub/a.csv").parent.parent
    (folder / "b.csv").mkdir()
    (folder / "c.csv").symlink_to(tmp_path / "secret.csv")
    assert move_files(home, "iris", DAY, later()) == []


def test_complete_files_move_to_the_days_input_once(home: Home) -> None:
    for name in ("a.csv", "b.csv.gz"):
        drop(home, name)
    moved = move_files(home, "iris", DAY, later())
    assert moved == [input_folder(home, "iris", DAY) / name for name in ("a.csv", "b.csv.gz")]
    assert list(drop_folder(home, "iris").iterdir()) == []
    assert move_files(home, "iris", DAY, later()) == []


def test_the_same_name_twice_keeps_both(home: Home) -> None:
    for data in (b"id\n1\n", b"id\n2\n", b"id\n3\n"):
        drop(home, "a.csv.gz", data)
        move_files(home, "iris", DAY, later())
    there = sorted(input_folder(home, "iris", DAY).iterdir())
    assert sorted(path.read_bytes() for path in there) == [b"id\n1\n", b"id\n2\n", b"id\n3\n"]
    assert all(path.name.endswith(".csv.gz") for path in there)


def test_no_file_is_replaced_whatever_it_is_called(home: Home) -> None:
    first, second = b"id\n1\n", b"id\n2\n"
    digest = sha256(second).hexdigest()
    drop(home, "a.csv", first)
    drop(home, f"a-{digest[:8]}.csv", first)
    move_files(home, "iris", DAY, later())
    drop(home, "a.csv", second)
    move_files(home, "iris", DAY, later())
    there = [path.read_bytes() for path in input_folder(home, "iris", DAY).iterdir()]
    assert sorted(there) == [first, first, second]


def test_killed_between_two_moves_the_rest_is_moved_later(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        drop(home, f"{number}.csv", f"id\n{number}\n".encode())
    real, moved = Path.rename, []

    def killed(path: Path, target: Path) -> Path:
        if moved:
            raise KeyboardInterrupt
        moved.append(path)
        return real(path, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        move_files(home, "iris", DAY, later())
    monkeypatch.undo()
    assert names(move_files(home, "iris", DAY, later())) == ["1.csv", "2.csv"]
    there = sorted(input_folder(home, "iris", DAY).iterdir())
    assert [path.read_bytes() for path in there] == [b"id\n0\n", b"id\n1\n", b"id\n2\n"]


def test_the_same_file_twice_is_there_once(home: Home) -> None:
    for data in (b"id\n1\n", b"id\n2\n", b"id\n1\n", b"id\n2\n"):
        drop(home, "a.csv", data)
        move_files(home, "iris", DAY, later())
    assert list(drop_folder(home, "iris").iterdir()) == []
    there = sorted(input_folder(home, "iris", DAY).iterdir())
    assert [path.read_bytes() for path in there] == [b"id\n2\n", b"id\n1\n"]


def test_a_day_is_scored_where_the_settings_say(home: Home) -> None:
    plain = Model(name="iris")
    places = day_places(home, plain, DAY)
    assert places.input == str(home.batch / "iris" / "input" / DAY)
    assert places.output == str(home.batch / "iris" / "predictions" / f"day={DAY}")
    assert day_places(home, plain, DAY, dropped=True) == places
    batch = Batch(input="s3://in/{day}/*.parquet", output="s3://out/{day}")
    elsewhere = day_places(home, Model(name="iris", batch=batch), DAY)
    assert elsewhere.input == f"s3://in/{DAY}/*.parquet"
    assert elsewhere.output == f"s3://out/{DAY}"


def test_dropped_files_do_not_take_the_place_of_a_configured_input(home: Home) -> None:
    model = Model(name="iris", batch=Batch(input="s3://in/{day}"))
    usual, dropped = day_places(home, model, DAY), day_places(home, model, DAY, dropped=True)
    assert dropped.input == str(input_folder(home, "iris", DAY))
    assert dropped.output != usual.output
