"""Logs stay small while their processes go on writing."""

from pathlib import Path

from deploy.logs import rotate


def test_a_log_over_the_limit_is_moved_away_and_goes_on_from_empty(tmp_path: Path) -> None:
    log = tmp_path / "iris.log"
    with log.open("a") as writer:
        writer.write("x" * 100)
        writer.flush()
        rotate(tmp_path, max_bytes=99)
        writer.write("y")
    assert log.read_text() == "y"
    assert (tmp_path / "iris.log.1").read_text() == "x" * 100


def test_a_small_log_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "iris.log").write_text("x" * 99)
    rotate(tmp_path, max_bytes=99)
    assert [path.name for path in tmp_path.iterdir()] == ["iris.log"]
