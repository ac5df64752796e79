"""Compaction: every record once, whatever happens meanwhile."""

import signal
import subprocess
import sys
import threading
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import pytest

from bentos.prediction_log.segments import Block, frame
from deploy.home import Home
from deploy.predictions.areas import prediction_area
from deploy.predictions.compaction import compact
from deploy.predictions.plans import PlanError, read_plans
from deploy.predictions.scan import Filter, read_rows
from serving_config.predictions import Predictions
from tests.deploy.predictions.crashes import Crash, crash_at
from tests.deploy.predictions.segments import (
    NOON,
    block,
    content,
    folder,
    header,
    living,
    micros,
    segment,
)

SETTINGS = Predictions()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def ids(home: Home, model: str = "iris", settings: Predictions = SETTINGS) -> Counter[str]:
    area = prediction_area(home, settings)
    found = read_rows(area, model, "production", Filter(), ["request_id"])
    return Counter(found["request_id"].to_pylist())


def parquet_files(home: Home) -> list[Path]:
    return sorted((home.predictions / "parquet").rglob("*.parquet"))


def segments_of(home: Home) -> list[str]:
    place = home.predictions / "segments"
    return sorted(path.name for path in place.rglob("*") if path.is_file())


def test_rows_lie_by_model_environment_and_day_in_utc(home: Home) -> None:
    eve = NOON.replace(hour=23, minute=59, second=59)
    segment(home, "0-1", block(["a", "b", "c"], eve))
    segment(home, "0-2", block(["d"]), of=header(model="spam", environment="staging"))
    found = compact(home, SETTINGS, NOON)
    assert (found.segments, found.rows, found.damaged) == (2, 4, ())
    assert found.bytes == sum(path.stat().st_size for path in parquet_files(home))
    places = [path.parent.relative_to(home.predictions).as_posix() for path in parquet_files(home)]
    assert places == [
        "parquet/model=iris/environment=production/day=2026-11-20",
        "parquet/model=iris/environment=production/day=2026-11-21",
        "parquet/model=spam/environment=staging/day=2026-11-20",
    ]
    assert ids(home) == Counter("abc")
    assert segments_of(home) == []
    assert read_plans(prediction_area(home, SETTINGS)) == []


def test_nothing_to_do_is_done_at_once(home: Home) -> None:
    found = compact(home, SETTINGS, NOON)
    assert (found.segments, found.rows, found.files, found.rows_per_second) == (0, 0, (), 0)


def test_segments_of_a_writer_that_lives_stay_and_those_of_a_dead_one_do_not(home: Home) -> None:
    torn = content(header(), block(["a", "b"]), block(["c"]))[:-5]
    (folder(home, header()) / "0-1.open").write_bytes(torn)
    with living(home, "1-1") as file:
        file.write(frame(block(["d"])))
        found = compact(home, SETTINGS, NOON)
        assert (found.rows, found.damaged) == (2, ())
        assert segments_of(home) == ["1-1.open"]
        assert ids(home) == Counter("abd")
    assert compact(home, SETTINGS, NOON).rows == 1
    assert ids(home) == Counter("abd")


@pytest.mark.parametrize("torn", [b"", b"SLW", b"SLWPSEG1", content(header())[:-1]])
def test_a_segment_torn_before_its_header_holds_nothing(home: Home, torn: bytes) -> None:
    (folder(home, header()) / "0-1.open").write_bytes(torn)
    found = compact(home, SETTINGS, NOON)
    assert (found.segments, found.rows, found.damaged) == (1, 0, ())
    assert segments_of(home) == []


def test_a_damaged_segment_goes_to_the_quarantine_with_what_was_readable_saved(home: Home) -> None:
    segment(home, "good", block(["a"]))
    (folder(home, header()) / "magic.seg").write_bytes(b"PAR1 and so on")
    other = folder(home, header()) / "lies.seg"
    other.write_bytes(content(header(model="spam"), block(["x"])))
    flipped = bytearray(content(header(), block(["b"]), block(["c"])))
    flipped[-3] ^= 1
    (folder(home, header()) / "flipped.seg").write_bytes(flipped)
    wrong = block(["d"], features=[["no number"], ["red"]])
    segment(home, "wrong", block(["e"]), wrong)
    assert set(ids(home)) == {"a", "b"}  # the whole of a table counts, or nothing of it
    found = compact(home, SETTINGS, NOON)
    reasons = {name.rpartition("/")[2]: reason for name, reason in found.damaged}
    assert sorted(reasons) == ["flipped.seg", "lies.seg", "magic.seg", "wrong.seg"]
    assert "no segment" in reasons["magic.seg"]
    assert "spam in production" in reasons["lies.seg"]
    assert "no whole frames" in reasons["flipped.seg"]
    assert "not those of its header" in reasons["wrong.seg"]
    kept = home.predictions / "quarantine" / "production" / "iris" / "1"
    assert sorted(path.name for path in kept.iterdir()) == sorted(reasons)
    assert ids(home) == Counter("ab")
    # The same name again is not written over.
    (folder(home, header()) / "magic.seg").write_bytes(b"another")
    compact(home, SETTINGS, NOON)
    assert len(list(kept.glob("magic.seg*"))) == 2


def many(home: Home) -> Counter[str]:
    """Two versions, two models, two days, and a segment of a dead writer."""
    eve = NOON.replace(hour=23, minute=59, second=59)
    segment(home, "0-1", block(["a", "b"]), block(["c", "d"], eve))
    new = header(label="2", columns=("width",), dtypes=("int64",))
    segment(home, "0-1", block(["e"], features=[[1]]), of=new)
    segment(home, "0-2", block(["f"]), of=header(model="spam"))
    (folder(home, header()) / "1-1.open").write_bytes(content(header(), block(["g"])))
    (folder(home, header()) / "2-1.seg").write_bytes(b"damaged")
    return Counter("abcdeg")


def test_killed_before_any_file_operation_the_next_run_goes_on(tmp_path: Path) -> None:
    operations = 0
    for operation in range(1000):
        home = Home(tmp_path / str(operation))
        expected = many(home)
        with crash_at(operation) as crash:
            try:
                compact(home, SETTINGS, NOON)
            except Crash:
                pass
            else:
                operations = operation
                break
        assert crash.reached
        assert ids(home) == expected, crash.log[-1]
        assert ids(home, "spam") == Counter("f")
        compact(home, SETTINGS, NOON)
        assert ids(home) == expected, crash.log[-1]
        assert ids(home, "spam") == Counter("f")
        assert segments_of(home) == []
        assert read_plans(prediction_area(home, SETTINGS)) == []
        assert [path for path in home.predictions.rglob(".*") if path.is_file()] == []
    assert operations > 20


def test_killed_twice_in_different_places(tmp_path: Path) -> None:
    for first in range(4, 34, 5):
        for second in range(2, 30, 6):
            home = Home(tmp_path / f"{first}-{second}")
            expected = many(home)
            for operation in (first, second):
                try:
                    with crash_at(operation):
                        compact(home, SETTINGS, NOON)
                except Crash:
                    pass
                assert ids(home) == expected
            compact(home, SETTINGS, NOON)
            assert ids(home) == expected


_CHILD = """
import sys
from pathlib import Path
from deploy.home import Home
from deploy.predictions.compaction import compact
from serving_config.predictions import Predictions
from tests.deploy.predictions.segments import NOON
print("ready", flush=True)
compact(Home(Path(sys.argv[1])), Predictions(), NOON)
"""


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1, 0.2])
def test_killed_for_real_the_next_run_goes_on(home: Home, delay: float) -> None:
    expected: Counter[str] = Counter()
    for number in range(40):
        names = [f"{number}-{row}" for row in range(2000)]
        segment(home, f"0-{number}", block(names))
        expected.update(names)
    command = [sys.executable, "-c", _CHILD, str(home.root)]
    root = Path(__file__).parents[3]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as child:
        assert child.stdout is not None
        child.stdout.readline()
        threading.Event().wait(delay)
        child.send_signal(signal.SIGKILL)
    assert ids(home) == expected
    compact(home, SETTINGS, NOON)
    assert ids(home) == expected
    assert segments_of(home) == []


def test_whoever_reads_meanwhile_sees_every_row_once(home: Home) -> None:
    expected: Counter[str] = Counter()
    for number in range(60):
        names = [f"{number}-{row}" for row in range(50)]
        segment(home, f"0-{number}", block(names))
        expected.update(names)
    seen: list[Counter[str]] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(ids(home))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(8):  # several plans, and more to come meanwhile
            compact(home, SETTINGS, NOON)
            segment(home, f"1-{number}", block([f"new-{number}"]))
    finally:
        done.set()
        reader.join()
    assert seen
    for counted in seen:
        assert max(counted.values()) == 1
        assert expected.keys() <= counted.keys()


def test_a_segment_that_gets_the_name_of_a_removed_one_stays(home: Home) -> None:
    """Killed after the segments were removed and before the plan was."""
    path = segment(home, "0-1", block(["a"]))

    def is_removal_of_the_plan(event: str, name: str) -> bool:
        return event == "os.remove" and name.endswith(".json")

    with pytest.raises(Crash), crash_at(is_removal_of_the_plan):
        compact(home, SETTINGS, NOON)
    assert not path.exists()
    segment(home, "0-1", block(["b"]))
    assert ids(home) == Counter("ab")
    assert compact(home, SETTINGS, NOON).rows == 2
    assert ids(home) == Counter("ab")


def test_files_that_a_killed_run_wrote_of_what_is_gone_since_do_not_count(home: Home) -> None:
    segment(home, "0-1", block(["a"]))
    other = segment(home, "0-1", block(["b"]), of=header(label="2", classes=("x", "y")))
    plans = []

    def is_second_state_of_the_plan(event: str, name: str) -> bool:
        plans.extend([name] if event == "open" and "/plans/" in name else [])
        return len(plans) == 2

    with pytest.raises(Crash), crash_at(is_second_state_of_the_plan):
        compact(home, SETTINGS, NOON)
    assert len(parquet_files(home)) == 2
    other.unlink()
    assert ids(home) == Counter("a")
    found = compact(home, SETTINGS, NOON)
    assert found.damaged == (
        ("production/iris/2/0-1.seg", "it was removed while it was being compacted"),
    )
    assert ids(home) == Counter("a")
    assert len(parquet_files(home)) == 1


def test_a_plan_that_cannot_be_read_stops_everything_with_what_to_do(home: Home) -> None:
    segment(home, "0-1", block(["a"]))
    plans = home.predictions / "plans"
    plans.mkdir()
    (plans / "x.json").write_text("{")
    with pytest.raises(PlanError, match=r"x\.json"):
        compact(home, SETTINGS, NOON)
    with pytest.raises(PlanError, match=r"x\.json"):
        ids(home)


def test_large_sets_are_done_in_parts(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.predictions.compaction._CHUNK_SEGMENTS", 3)
    for number in range(8):
        segment(home, f"0-{number}", block([str(number)]))
    found = compact(home, SETTINGS, NOON)
    assert (found.segments, found.rows, len(found.files)) == (8, 8, 3)
    assert ids(home) == Counter("01234567")


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_the_files_may_lie_in_an_object_storage(home: Home, tmp_path: Path, scheme: str) -> None:
    url = f"memory://{tmp_path.name}" if scheme == "memory" else f"file://{tmp_path}/bucket"
    settings = Predictions(url=url)
    segment(home, "0-1", block(["a", "b"]))
    found = compact(home, settings, NOON)
    assert found.bytes > 0
    assert not (home.predictions / "parquet").exists()
    assert ids(home, settings=settings) == Counter("ab")
    segment(home, "0-2", block(["c"], NOON + timedelta(days=1)))
    compact(home, settings, NOON)
    area = prediction_area(home, settings)
    days = area.store().days("iris", "production")
    assert list(days) == [date(2026, 11, 20), date(2026, 11, 21)]
    only = read_rows(area, "iris", "production", Filter(since=NOON + timedelta(days=1)))
    assert only["request_id"].to_pylist() == ["c"]


def test_times_beyond_the_calendar_are_damage(home: Home) -> None:
    wrong: Block = block(["a"], time=[micros(NOON) * 1000])
    segment(home, "0-1", wrong)
    assert [reason for _, reason in compact(home, SETTINGS, NOON).damaged] == [
        "its rows are not those of its header: a time is before 1970 or after 9999"
    ]
