import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import fields, replace

from deploy.events import GENESIS, Change, Event, LedgerConflictError, LedgerError, Live, State
from deploy.ledger import Ledger
from deploy.ledger_tables import EVENTS, row_of
from tests.deploy.postgres_server import PostgresServer
from tests.deploy.releases import change, live

Open = Callable[[str], Ledger]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """A database of its own for each test."""
    if request.param == "sqlite":
        return f"sqlite:///{request.getfixturevalue('file')}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.url(server.create_database())


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens ledgers and closes them."""
    ledgers: list[Ledger] = []

    def open_ledger(url: str) -> Ledger:
        ledgers.append(Ledger(url))
        return ledgers[-1]

    yield open_ledger
    for ledger in ledgers:
        ledger.close()


@pytest.fixture
def ledger(url: str, opened: Open) -> Ledger:
    return opened(url)


def deploy(ledger: Ledger, version: int, model: str = "iris", where: str = "staging") -> Event:
    return ledger.record(change(ledger.state(where, model), live(version, model=model)))


def edit(ledger: Ledger, statement: str, **values: object) -> None:
    """As somebody with an editor would: past the ledger."""
    with ledger._database.engine.connect() as connection:
        connection.execution_options(writing=True)
        with connection.begin():
            assert connection.execute(sa.text(statement), values).rowcount == 1


def test_nothing_is_live_in_a_new_ledger(ledger: Ledger) -> None:
    assert ledger.state("staging", "iris") == State("staging", "iris", 0, ())
    assert ledger.states() == {}
    assert ledger.events() == []
    ledger.check()


def test_every_change_is_the_next_generation_of_its_model_and_environment(ledger: Ledger) -> None:
    places = [("iris", "staging"), ("iris", "staging"), ("spam", "staging"), ("iris", "production")]
    events = [deploy(ledger, n, *place) for n, place in enumerate(places, start=1)]
    assert [event.generation for event in events] == [1, 2, 1, 1]
    assert [event.id for event in events] == [1, 2, 3, 4]
    assert ledger.state("staging", "iris") == State("staging", "iris", 2, (live(2),))
    assert set(ledger.states()) == {
        ("staging", "iris"),
        ("staging", "spam"),
        ("production", "iris"),
    }


def test_an_event_says_who_did_what_with_which_proof_and_what_is_live_since(ledger: Ledger) -> None:
    written = deploy(ledger, 3)
    assert ledger.events() == [written]
    assert (written.version, written.variant, written.weight) == (3, "fp32", 100)
    assert (written.action, written.actor, written.dagster_run) == ("deploy", "ann", "run-1")
    assert written.evidence == {"bento": "iris:1", "figures": [1, 2.5, None]}
    assert written.onnx_sha256 == live(3).onnx_sha256
    assert written.live == (live(3),)
    assert written.at.endswith("+00:00")


def test_each_event_holds_the_hash_of_the_one_before(ledger: Ledger) -> None:
    events = [deploy(ledger, number) for number in (1, 2, 3)]
    assert [e.previous_hash for e in events] == [GENESIS, events[0].hash, events[1].hash]
    assert [e.hash for e in events] == [e.expected_hash() for e in events]


def test_events_come_in_the_order_they_happened_and_can_be_asked_for_by_place(
    ledger: Ledger,
) -> None:
    for number, place in enumerate([("b", "staging"), ("a", "staging"), ("b", "production")], 1):
        deploy(ledger, number, *place)
    assert [event.version for event in ledger.events()] == [1, 2, 3]
    assert [event.version for event in ledger.events("b")] == [1, 3]
    assert [event.version for event in ledger.events(environment="staging")] == [1, 2]
    assert [event.version for event in ledger.events("b", "production")] == [3]
    assert ledger.events("c") == []


def test_a_closed_ledger_is_there_when_the_file_is_opened_again(
    ledger: Ledger, url: str, opened: Open
) -> None:
    written = [deploy(ledger, 1), deploy(ledger, 2)]
    ledger.close()
    again = opened(url)
    assert again.events() == written
    assert deploy(again, 3).previous_hash == written[-1].hash
    again.check()


@pytest.mark.parametrize("first", [True, False], ids=["first release", "later release"])
def test_who_decided_on_an_old_state_gets_a_conflict_and_changes_nothing(
    first: bool, ledger: Ledger
) -> None:
    if not first:
        deploy(ledger, 1)
    old = ledger.state("staging", "iris")
    winner = ledger.record(change(old, live(2)))
    with pytest.raises(LedgerConflictError, match="try again"):
        ledger.record(change(old, live(3)))
    assert ledger.events()[-1] == winner
    assert ledger.state("staging", "iris").live == (live(2),)
    ledger.check()


def test_a_state_that_never_was_is_a_conflict_too(ledger: Ledger) -> None:
    with pytest.raises(LedgerConflictError, match="no longer at generation 7"):
        ledger.record(change(State("staging", "iris", 7, ()), live(1)))
    assert ledger.events() == []


def test_of_threads_that_race_exactly_one_wins_each_generation(url: str, opened: Open) -> None:
    rounds, racers = 5, 4
    ledgers = [opened(url) for _ in range(racers)]
    barrier = Barrier(racers)

    def race(number: int) -> list[bool]:
        won = []
        for _ in range(rounds):
            base = ledgers[number].state("staging", "iris")
            barrier.wait(timeout=30)
            try:
                ledgers[number].record(change(base, live(number + 1)))
                won.append(True)
            except LedgerConflictError:
                won.append(False)
            barrier.wait(timeout=30)
        return won

    with ThreadPoolExecutor(racers) as pool:
        results = list(pool.map(race, range(racers)))
    assert [sum(column) for column in zip(*results, strict=True)] == [1] * rounds
    assert [event.generation for event in ledgers[0].events()] == list(range(1, rounds + 1))
    ledgers[0].check()


RACER = """
import sys
from deploy.events import LedgerConflictError
from deploy.ledger import Ledger
from deploy.ledger_tables import EVENTS, row_of
from tests.deploy.releases import change, live
number, url = int(sys.argv[1]), sys.argv[2]
ledger = Ledger(url)
base = ledger.state("staging", "iris")
print("ready", flush=True)
sys.stdin.readline()
try:
    ledger.record(change(base, live(number)))
    print("won")
except LedgerConflictError:
    print("lost")
"""


def test_of_two_processes_that_race_one_wins_and_the_chain_holds(ledger: Ledger, url: str) -> None:
    deploy(ledger, 1)
    command = [sys.executable, "-c", RACER]
    racers = [
        subprocess.Popen(
            [*command, str(number), url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for number in (2, 3)
    ]
    try:
        for racer in racers:
            assert racer.stdout
            assert racer.stdout.readline() == "ready\n"
        said = [racer.communicate("go\n", timeout=60)[0].strip() for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()
    assert sorted(said) == ["lost", "won"]
    assert ledger.state("staging", "iris").live == (live(2 + said.index("won")),)
    assert len(ledger.events()) == 2
    ledger.check()


@pytest.mark.parametrize(
    ("lives", "words"),
    [
        ((live(1, 99),), r"sum to 100, got \[99\]"),
        ((live(1, 60), live(2, 60)), r"sum to 100, got \[60, 60\]"),
        ((live(1, 0),), r"sum to 100, got \[0\]"),
        ((live(1, 110), live(2, -10)), r"between 0 and 100, got \[110, -10\]"),
        ((live(1, 50), live(1, 50)), r"live twice: \['1', '1'\]"),
    ],
)
def test_weights_that_are_no_split_of_the_traffic_are_refused(
    lives: tuple[Live, ...], words: str, ledger: Ledger
) -> None:
    with pytest.raises(LedgerError, match=words):
        ledger.record(change(State("staging", "iris"), *lives))
    assert ledger.events() == []
    assert ledger.states() == {}


@pytest.mark.parametrize(
    "lives",
    [
        (live(1, 100),),
        (live(1, 90), live(2, 10)),
        (live(1, 100), live(2, 0)),
        (live(1, 50), live(1, 50, variant="int8")),
    ],
    ids=["all", "canary", "shadow", "variants"],
)
def test_a_split_is_kept_as_it_was_asked_for(lives: tuple[Live, ...], ledger: Ledger) -> None:
    ledger.record(change(State("staging", "iris"), *lives))
    assert ledger.state("staging", "iris").live == lives


def test_nothing_live_is_a_state_as_well(ledger: Ledger) -> None:
    deploy(ledger, 1)
    ledger.record(change(ledger.state("staging", "iris"), subject=live(1, 0)))
    assert ledger.state("staging", "iris") == State("staging", "iris", 2, ())
    ledger.check()


DAMAGE = {
    "a changed row": (
        "UPDATE deployment_events SET actor = 'bob' WHERE id = 2",
        "event 2 is not what was written",
    ),
    "a changed digest": (
        "UPDATE deployment_events SET onnx_sha256 = 'f' WHERE id = 3",
        "event 3 is not what was written",
    ),
    "a changed time": (
        "UPDATE deployment_events SET at = '2020' WHERE id = 1",
        "event 1 is not what was written",
    ),
    "changed evidence": (
        "UPDATE deployment_events SET evidence = '{}' WHERE id = 1",
        "event 1 is not what was written",
    ),
    "a row that is no JSON": (
        "UPDATE deployment_events SET live = 'nothing' WHERE id = 2",
        "event 2 cannot be read",
    ),
    "a removed first row": ("DELETE FROM deployment_events WHERE id = 1", "before event 2"),
    "a removed row": ("DELETE FROM deployment_events WHERE id = 2", "before event 3"),
    "a removed last row": (
        "DELETE FROM deployment_events WHERE id = 3",
        "not what the events lead to",
    ),
    "a changed generation": (
        "UPDATE deployment_state SET generation = 1",
        "not what the events lead to",
    ),
    "a changed state": ("UPDATE deployment_state SET live = '[]'", "not what the events lead to"),
    "a state that is no JSON": (
        "UPDATE deployment_state SET live = 'nothing'",
        "state of iris in staging cannot be read",
    ),
    "a removed state": ("DELETE FROM deployment_state", "not what the events lead to"),
}


@pytest.mark.parametrize(("statement", "words"), DAMAGE.values(), ids=DAMAGE)
def test_a_check_finds(statement: str, words: str, ledger: Ledger) -> None:
    for number in (1, 2, 3):
        deploy(ledger, number)
    ledger.check()
    edit(ledger, statement)
    with pytest.raises(LedgerError, match=words):
        ledger.check()


def test_a_row_changed_with_its_own_hash_still_breaks_the_chain(ledger: Ledger) -> None:
    first, _ = deploy(ledger, 1), deploy(ledger, 2)
    forged = replace(first, actor="bob")
    statement = "UPDATE deployment_events SET actor = 'bob', hash = '{}' WHERE id = 1"
    edit(ledger, statement.format(forged.expected_hash()))
    with pytest.raises(LedgerError, match="the chain breaks before event 2"):
        ledger.check()


def test_a_database_that_cannot_be_opened_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="unable to open database file") as caught:
        Ledger(f"sqlite:///{tmp_path}/nowhere/ledger.db")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database_is_one_sentence(file: Path) -> None:
    file.write_text("not a database, but longer than a header of one hundred bytes" * 4)
    with pytest.raises(LedgerError, match="not a database") as caught:
        Ledger(f"sqlite:///{file}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["ledger.db", "nosql://here/ledger"])
def test_a_url_that_means_nothing_is_one_sentence(url: str) -> None:
    with pytest.raises(LedgerError, match="the ledger"):
        Ledger(url)


def test_a_full_disk_changes_nothing(file: Path, opened: Open) -> None:
    """As SQLite sees it: the file may have no further page."""
    ledger = opened(f"sqlite:///{file}")
    deploy(ledger, 1)
    with ledger._database.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    base, written = ledger.state("staging", "iris"), ledger.events()
    big = Change(
        base=base,
        action="deploy",
        subject=live(2),
        live=(live(2),),
        actor="ann",
        evidence={"note": "x" * 100_000},
    )
    with pytest.raises(LedgerError, match="database or disk is full") as caught:
        ledger.record(big)
    assert not isinstance(caught.value, LedgerConflictError)
    assert "\n" not in str(caught.value)
    assert (ledger.state("staging", "iris"), ledger.events()) == (base, written)
    ledger.check()


@pytest.mark.parametrize("committed", [True, False])
def test_a_connection_that_dies_at_the_commit_tells_what_the_database_has(
    committed: bool, ledger: Ledger
) -> None:
    deploy(ledger, 1)
    before, engine = ledger.state("staging", "iris"), ledger._database.engine

    @sa.event.listens_for(engine, "commit")
    def die(connection: sa.Connection) -> None:
        if connection.get_execution_options()["writing"]:
            driver = connection.connection.driver_connection
            assert driver
            driver.commit() if committed else driver.rollback()
            raise sa.exc.OperationalError("COMMIT", None, ConnectionError("it died"))

    if committed:
        event = ledger.record(change(before, live(2)))
        assert ledger.last_event("staging", "iris") == event
    else:
        with pytest.raises(LedgerError, match="it died"):
            ledger.record(change(before, live(2)))
        assert ledger.state("staging", "iris") == before
    assert ledger.check() == (2 if committed else 1)


def test_a_file_that_may_not_be_written_is_read_and_takes_no_change(
    file: Path, opened: Open
) -> None:
    deploy(opened(f"sqlite:///{file}"), 1)
    reader = opened(f"sqlite:///file:{file}?mode=ro&uri=true")
    before = reader.state("staging", "iris")
    with pytest.raises(LedgerError, match="readonly database"):
        reader.record(change(before, live(2)))
    assert (reader.state("staging", "iris"), reader.check()) == (before, 1)


def test_readers_of_a_file_do_not_wait_for_a_writer(file: Path, opened: Open) -> None:
    ledger = opened(f"sqlite:///{file}")
    deploy(ledger, 1)
    with ledger._database.transaction(writing=True):
        other = opened(f"sqlite:///{file}")
        assert (other.check(), other.state("staging", "iris").generation) == (1, 1)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["staging", "production"]),
        st.sampled_from(["a", "a-1"]),
        st.lists(st.integers(1, 5), unique=True, max_size=3),
        st.integers(0, 2),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_replaying_the_events_gives_the_state_whatever_happened(
    steps: list[tuple[str, str, list[int], int]],
) -> None:
    """behind: how many generations ago the writer has read the state it decides on."""
    ledger = Ledger("sqlite://")
    history: dict[tuple[str, str], list[State]] = {}
    for environment, model, versions, behind in steps:
        place = (environment, model)
        seen = history.setdefault(place, [State(environment, model)])
        lives = tuple(live(v, 100 if v == versions[0] else 0, model=model) for v in versions)
        base = seen[max(0, len(seen) - 1 - behind)]
        if base is seen[-1]:
            event = ledger.record(change(base, *lives, subject=live(1, model=model)))
            seen.append(State(environment, model, event.generation, lives))
        else:
            with pytest.raises(LedgerConflictError):
                ledger.record(change(base, *lives, subject=live(1, model=model)))
    replayed = {}
    for event in ledger.events():
        place = (event.environment, event.model)
        replayed[place] = State(*place, event.generation, event.live)
    expected = {place: seen[-1] for place, seen in history.items() if len(seen) > 1}
    assert replayed == ledger.states() == expected
    assert all(ledger.state(*place) == seen[-1] for place, seen in history.items())
    ledger.check()
    ledger.close()


def test_a_version_is_named_as_clients_name_it() -> None:
    assert live(3).label == "3"
    assert live(3, variant="int8").label == "3-int8"


COLUMNS = {
    "id": st.integers(-3, 9),
    "at": st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40),
    "environment": st.sampled_from(["staging", "production", "Staging", ""]),
    "model": st.sampled_from(["iris", "spam", "iris "]),
    "generation": st.integers(-1, 9),
    "action": st.sampled_from(["deploy", "rollback", "promote", ""]),
    "version": st.integers(-1, 9),
    "variant": st.sampled_from(["fp32", "int8", ""]),
    "onnx_sha256": st.text("0123456789abcdef", max_size=64),
    "weight": st.integers(-100, 100),
    "actor": st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=9),
    "dagster_run": st.one_of(st.none(), st.sampled_from(["run-1", "run-2", ""])),
    "evidence": st.sampled_from(
        ["{}", "[]", '{"bento": "iris:1"}', '{ "bento":"iris:1"}', "", "0"]
    ),
    "live": st.sampled_from(["[]", "[ ]", "{}", "null", "", '[{"version":1}]']),
    "previous_hash": st.text("0123456789abcdef", max_size=64),
    "hash": st.text("0123456789abcdef", max_size=64),
}


def test_the_columns_below_are_all_there_are() -> None:
    assert [field.name for field in fields(Event)] == list(COLUMNS)


@settings(max_examples=60, deadline=None)
@given(column=st.sampled_from(list(COLUMNS)), number=st.integers(1, 3), data=st.data())
def test_a_check_finds_a_change_of_any_column_of_any_row(
    column: str, number: int, data: st.DataObject
) -> None:
    with Ledger("sqlite://") as ledger:
        for version in (1, 2, 3):
            deploy(ledger, version)
        assert ledger.check() == 3
        value = data.draw(COLUMNS[column])
        before = row_of(ledger.events()[number - 1])[column]
        assume(value != before and (column != "id" or value not in (1, 2, 3)))
        with ledger._database.transaction(writing=True) as connection:
            changed = EVENTS.update().where(EVENTS.c.id == number).values({column: value})
            assert connection.execute(changed).rowcount == 1
        with pytest.raises(LedgerError):
            ledger.check()


def test_a_check_finds_white_space_that_was_put_into_a_row(ledger: Ledger) -> None:
    """Which means the same, but is not what was written."""
    deploy(ledger, 1)
    edit(ledger, "UPDATE deployment_events SET evidence = ' ' || evidence")
    with pytest.raises(LedgerError, match="event 1 is not what was written"):
        ledger.check()


@pytest.mark.parametrize("fits", [False, True], ids=["copied", "with a hash that fits"])
def test_a_check_finds_a_row_that_was_added(fits: bool, ledger: Ledger) -> None:
    deploy(ledger, 1)
    last = deploy(ledger, 2)
    added = replace(last, id=3, generation=3, actor="bob", hash="f" * 64)
    if fits:
        added = replace(added, previous_hash=last.hash, hash="")
        added = replace(added, hash=added.expected_hash())
    with ledger._database.transaction(writing=True) as connection:
        row = row_of(added) | {"previous_hash": added.previous_hash if fits else "0" * 63}
        connection.execute(EVENTS.insert().values(**row))
    with pytest.raises(LedgerError, match=r"chain breaks|not what the events lead to"):
        ledger.check()
