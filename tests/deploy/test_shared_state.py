"""The same on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from deploy.events import LedgerConflictError
from deploy.findings import read_finding, write_finding
from deploy.home import Home
from deploy.ledger import Ledger
from deploy.shared_state import SharedState, close_shared_states, shared_state
from tests.deploy.found import finding
from tests.deploy.postgres_server import PostgresServer


@pytest.fixture(params=["sqlite", "postgres"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    url = None
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.url(server.create_database())
    yield Home(tmp_path, configured_ledger=url)
    close_shared_states()


@pytest.fixture
def state(home: Home) -> SharedState:
    return shared_state(home)


def test_what_was_written_last_is_read(state: SharedState) -> None:
    assert state.read("kind", "a") is None
    assert state.write("kind", "a", b"1") == 1
    assert state.write("kind", "a", b"\x00\xff") == 2
    state.write("kind", "B", b"2")
    state.write("other", "a", b"3")
    assert [(item.key, item.data, item.version) for item in state.all("kind")] == [
        ("B", b"2", 1),
        ("a", b"\x00\xff", 2),
    ]
    state.remove("kind", "a", "gone")
    assert state.read("kind", "a") is None
    assert state.read("other", "a") is not None


def test_to_look_makes_no_database(tmp_path: Path) -> None:
    state = SharedState(f"sqlite:///{tmp_path}/ledger.db")
    assert (state.all("kind"), state.read("kind", "a")) == ([], None)
    state.remove("kind", "a")
    assert list(tmp_path.iterdir()) == []


def test_of_two_that_follow_the_same_version_one_wins(state: SharedState) -> None:
    barrier = Barrier(4)

    def write(number: int) -> bool:
        barrier.wait(30)
        try:
            state.write("kind", "a", str(number).encode(), expected=0)
        except LedgerConflictError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(write, range(4))) == [False, False, False, True]


def test_replicas_that_count_at_once_lose_nothing(home: Home) -> None:
    barrier = Barrier(4)

    def look(_: int) -> int:
        barrier.wait(30)
        return write_finding(home, finding("failed")).failures_in_row

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(look, range(4))) == [1, 2, 3, 4]


def test_it_lies_in_the_ledgers_database_and_leaves_the_ledger_alone(home: Home) -> None:
    with Ledger(home.ledger_url) as ledger:
        write_finding(home, finding("passed"))
        assert ledger.check() == 0
    close_shared_states()
    assert read_finding(home, "drift", "production", "iris") is not None


def test_a_home_does_not_show_its_ledgers_password() -> None:
    home = Home(Path("h"), configured_ledger="postgresql+psycopg://u:secret@h/d")
    assert "secret" not in repr(home)
