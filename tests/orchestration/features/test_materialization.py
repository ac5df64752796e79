"""How far a view is, whatever happens to the run; what writes the values is a list here."""

import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from deploy.home import Home
from feature_repo.description import Field
from orchestration.features.errors import FeatureError
from orchestration.features.materialization import Write, materialize_view
from orchestration.features.watermarks import read_watermark, watermark_path, write_watermark
from orchestration.features.windows import BEGINNING
from serving_config.features import Features
from tests.orchestration.features.homes import AGE, PROFILE, describe, home_with, hour

SETTINGS = Features()
STORE = SETTINGS.store
Spans = list[tuple[datetime, datetime]]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return home_with(tmp_path / "h")


@pytest.fixture
def spans() -> Spans:
    return []


@pytest.fixture
def write(spans: Spans) -> Write:
    return lambda name, start, end: spans.append((start, end)) or {"rows": 1}


def fails(name: str, start: datetime, end: datetime) -> dict[str, int]:
    raise OSError("the source is gone")


def until(home: Home) -> datetime | None:
    found = read_watermark(home, PROFILE, STORE)
    return found.until if found else None


def test_a_missed_window_is_caught_up_by_the_next_one(
    home: Home, spans: Spans, write: Write
) -> None:
    materialize_view(home, SETTINGS, "profile", hour(1), hour(2), write)
    materialize_view(home, SETTINGS, "profile", hour(5), hour(6), write)
    assert spans == [(BEGINNING, hour(2)), (hour(2), hour(6))]
    assert until(home) == hour(6)


def test_a_failed_window_leaves_the_watermark_and_is_caught_up(
    home: Home, spans: Spans, write: Write
) -> None:
    materialize_view(home, SETTINGS, "profile", hour(1), hour(2), write)
    with pytest.raises(OSError, match="the source is gone"):
        materialize_view(home, SETTINGS, "profile", hour(2), hour(3), fails)
    assert until(home) == hour(2)
    materialize_view(home, SETTINGS, "profile", hour(3), hour(4), write)
    assert spans[-1] == (hour(2), hour(4))


def test_an_older_window_is_done_again_without_moving_the_watermark_back(
    home: Home, spans: Spans, write: Write
) -> None:
    materialize_view(home, SETTINGS, "profile", hour(8), hour(9), write)
    materialize_view(home, SETTINGS, "profile", hour(3), hour(4), write)
    assert spans[-1] == (hour(3), hour(4))
    assert until(home) == hour(9)


def test_another_definition_or_another_store_starts_anew(
    home: Home, spans: Spans, write: Write
) -> None:
    materialize_view(home, SETTINGS, "profile", hour(1), hour(2), write)
    changed = msgspec.structs.replace(PROFILE, features=(AGE, Field("b", "int64")))
    describe(home, changed)
    materialize_view(home, SETTINGS, "profile", hour(2), hour(3), write)
    assert spans[-1] == (BEGINNING, hour(3))
    assert read_watermark(home, changed, "feature_store.production.yaml") is None


def test_a_watermark_of_the_future_was_a_wrong_clock_and_holds_nothing_up(
    home: Home, spans: Spans, write: Write
) -> None:
    materialize_view(home, SETTINGS, "profile", hour(1), hour(2), write)
    mark = read_watermark(home, PROFILE, STORE)
    assert mark is not None
    ahead = msgspec.structs.replace(mark, until=datetime.now(UTC) + timedelta(days=400))
    write_watermark(home, "profile", ahead)
    assert until(home) is None
    materialize_view(home, SETTINGS, "profile", hour(5), hour(6), write)
    assert spans[-1] == (BEGINNING, hour(6))
    assert until(home) == hour(6)


def test_a_window_that_is_not_over_is_refused(home: Home, spans: Spans, write: Write) -> None:
    now = datetime.now(UTC)
    with pytest.raises(FeatureError, match="is not over"):
        materialize_view(home, SETTINGS, "profile", now, now + timedelta(minutes=5), write)
    assert spans == []


def test_a_view_that_the_repository_lacks_is_named_with_those_there_are(
    home: Home, write: Write
) -> None:
    with pytest.raises(FeatureError, match=r"no feature view 'profil'.*there is: profile"):
        materialize_view(home, SETTINGS, "profil", hour(1), hour(2), write)


def test_definitions_that_were_never_applied_are_said_to_be(home: Home, write: Write) -> None:
    (home.features / "description.json").unlink()
    with pytest.raises(FeatureError, match="slipway features apply"):
        materialize_view(home, SETTINGS, "profile", hour(1), hour(2), write)


def test_a_damaged_watermark_is_an_error_and_not_a_new_beginning(home: Home, write: Write) -> None:
    materialize_view(home, SETTINGS, "profile", hour(1), hour(2), write)
    watermark_path(home, "profile").write_bytes(b"{")
    with pytest.raises(FeatureError, match="remove it"):
        materialize_view(home, SETTINGS, "profile", hour(2), hour(3), write)


def test_of_two_runs_at_once_the_second_goes_on_from_the_first(
    home: Home, spans: Spans, write: Write
) -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def slow(name: str, start: datetime, end: datetime) -> dict[str, int]:
        begun.set()
        assert goes_on.wait(30)
        spans.append((start, end))
        return {"rows": 1}

    first = threading.Thread(
        target=materialize_view, args=(home, SETTINGS, "profile", hour(1), hour(2), slow)
    )
    second = threading.Thread(
        target=materialize_view, args=(home, SETTINGS, "profile", hour(4), hour(5), write)
    )
    first.start()
    assert begun.wait(30)
    second.start()
    second.join(0.2)
    assert second.is_alive()  # it waits for the first
    assert spans == []
    goes_on.set()
    first.join(30)
    second.join(30)
    assert spans == [(BEGINNING, hour(2)), (hour(2), hour(5))]


KILLED = """
import os, signal, sys
from pathlib import Path
from deploy.home import Home
from orchestration.features import materialization
from serving_config.features import Features
from tests.orchestration.features.homes import hour
materialization.write_watermark = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
written = lambda name, start, end: {"rows": Path(sys.argv[2]).write_text("written")}
home = Home(Path(sys.argv[1]))
materialization.materialize_view(home, Features(), "profile", hour(1), hour(2), written)
"""


def test_a_run_that_is_killed_before_its_watermark_is_done_again(
    home: Home, spans: Spans, write: Write, tmp_path: Path
) -> None:
    checkout = Path(__file__).parents[3]
    written = tmp_path / "written"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, home.root, written],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(checkout)},
        cwd=checkout,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert written.exists()
    assert until(home) is None
    materialize_view(home, SETTINGS, "profile", hour(2), hour(3), write)
    assert spans == [(BEGINNING, hour(3))]
    assert until(home) == hour(3)
