"""What only a database server does: it is down, it dies, it says no, two begin at once."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import sqlalchemy as sa

from deploy import database as module
from deploy.events import LedgerConflictError, LedgerError
from deploy.ledger import Ledger
from deploy.processes import free_port
from tests.deploy.postgres_server import ESCAPED, PASSWORD, PostgresServer, postgres_server
from tests.deploy.releases import change, live


@pytest.fixture
def database(postgres: PostgresServer) -> str:
    return postgres.create_database()


@pytest.fixture
def ledger(postgres: PostgresServer, database: str) -> Iterator[Ledger]:
    with Ledger(postgres.url(database)) as opened:
        yield opened


def one_sentence(error: LedgerError, *words: str) -> None:
    text = str(error)
    assert "\n" not in text
    for word in words:
        assert word in text
    for secret in (PASSWORD, ESCAPED, "never-shown"):
        assert secret not in text


def deploy(ledger: Ledger, version: int, model: str = "iris") -> None:
    ledger.record(change(ledger.state("staging", model), live(version, model=model)))


OPENER = """
import sys
from deploy.ledger import Ledger
sys.stdin.readline()
with Ledger(sys.argv[1]) as ledger:
    print(len(ledger.events()))
"""


def test_processes_that_open_an_empty_database_at_once_make_its_tables_once(
    postgres: PostgresServer, database: str
) -> None:
    openers = [
        subprocess.Popen(
            [sys.executable, "-c", OPENER, postgres.url(database)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for _ in range(3)
    ]
    try:
        said = [opener.communicate("go\n", timeout=60)[0] for opener in openers]
    finally:
        for opener in openers:
            opener.kill()
            opener.communicate()
    assert said == ["0\n"] * 3


def test_threads_that_open_an_empty_database_at_once_make_its_tables_once(
    postgres: PostgresServer,
) -> None:
    barrier = Barrier(4)

    def open_it(url: str) -> int:
        barrier.wait(timeout=30)
        with Ledger(url) as ledger:
            return ledger.check()

    for _ in range(3):
        url = postgres.url(postgres.create_database())
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(open_it, [url] * 4)) == [0] * 4


def test_writers_of_different_models_never_conflict(
    postgres: PostgresServer, database: str
) -> None:
    models, changes = ["a", "b", "c", "d"], 15

    def write(model: str) -> None:
        with Ledger(postgres.url(database)) as ledger:
            for version in range(1, changes + 1):
                deploy(ledger, version, model)
                ledger.check()

    with ThreadPoolExecutor(len(models)) as pool:
        list(pool.map(write, models))
    with Ledger(postgres.url(database)) as ledger:
        assert ledger.check() == len(models) * changes
        assert {state.generation for state in ledger.states().values()} == {changes}


def test_a_server_that_is_down_is_one_sentence() -> None:
    url = f"postgresql+psycopg://slipway:never-shown@127.0.0.1:{free_port()}/ledger"
    with pytest.raises(LedgerError) as caught:
        Ledger(url)
    one_sentence(caught.value, "slipway:***@127.0.0.1", "Connection refused")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://slipway:never-shown/x@127.0.0.1:5432/ledger",
        "postgresql+psycopg://slipway:1:never-shown@[127.0.0.1/ledger",
    ],
)
def test_a_password_that_breaks_the_url_is_not_in_the_error(url: str) -> None:
    with pytest.raises(LedgerError) as caught:
        Ledger(url)
    one_sentence(caught.value, "the ledger")


def test_a_wrong_password_is_one_sentence_that_does_not_say_it(
    postgres: PostgresServer, database: str
) -> None:
    as_query = f"postgresql+psycopg://slipway@127.0.0.1:{postgres.port}/{database}"
    for url in (
        postgres.url(database, "slipway", "never-shown"),
        f"{as_query}?password=never-shown",
    ):
        with pytest.raises(LedgerError) as caught:
            Ledger(url)
        one_sentence(caught.value, "password authentication failed")


def test_a_database_that_is_not_there_is_one_sentence(postgres: PostgresServer) -> None:
    with pytest.raises(LedgerError) as caught:
        Ledger(postgres.url("nowhere"))
    one_sentence(caught.value, 'database "nowhere" does not exist')


def test_a_connection_that_died_between_two_uses_is_made_anew(
    ledger: Ledger, postgres: PostgresServer, database: str
) -> None:
    deploy(ledger, 1)
    with postgres.connect() as connection:
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            [database],
        ).fetchall()
    assert ended == [(True,)]
    deploy(ledger, 2)
    assert ledger.check() == 2


def test_a_server_that_crashed_keeps_what_was_written_and_takes_more_when_it_is_back() -> None:
    with postgres_server() as server, Ledger(server.url(server.create_database())) as ledger:
        deploy(ledger, 1)
        before = ledger.state("staging", "iris")
        server.stop()
        with pytest.raises(LedgerError) as caught:
            ledger.record(change(before, live(2)))
        one_sentence(caught.value, "Connection refused")
        assert not isinstance(caught.value, LedgerConflictError)
        server.start()
        assert ledger.state("staging", "iris") == before
        deploy(ledger, 2)
        assert ledger.check() == 2


def test_a_connection_that_dies_in_the_middle_of_a_change_changes_nothing(
    ledger: Ledger, postgres: PostgresServer, database: str
) -> None:
    deploy(ledger, 1)
    before, engine = ledger.state("staging", "iris"), ledger._database.engine

    @sa.event.listens_for(engine, "before_cursor_execute")
    def die(_c: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO deployment_events"):
            with postgres.connect() as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                    [database],
                )

    with pytest.raises(LedgerError) as caught:
        ledger.record(change(before, live(2)))
    one_sentence(caught.value, "terminat")
    sa.event.remove(engine, "before_cursor_execute", die)
    assert ledger.state("staging", "iris") == before
    assert ledger.check() == 1


def test_a_database_that_takes_no_writes_can_be_read_and_changes_nothing(
    ledger: Ledger, postgres: PostgresServer, database: str
) -> None:
    deploy(ledger, 1)
    with postgres.connect() as connection:
        connection.execute(
            f"ALTER DATABASE {database} SET default_transaction_read_only = on".encode()
        )
    with Ledger(postgres.url(database)) as reader:
        before = reader.state("staging", "iris")
        with pytest.raises(LedgerError) as caught:
            reader.record(change(before, live(2)))
        one_sentence(caught.value, "read-only transaction")
        assert reader.state("staging", "iris") == before
        assert reader.check() == 1


def test_a_role_that_may_only_append_writes_and_one_that_may_only_read_reads(
    ledger: Ledger, postgres: PostgresServer, database: str
) -> None:
    deploy(ledger, 1)
    with postgres.connect(database) as connection:
        for statement in (
            "CREATE ROLE appender LOGIN PASSWORD 'a'",
            "GRANT SELECT, INSERT ON deployment_events TO appender",
            "GRANT SELECT, INSERT, UPDATE ON deployment_state TO appender",
            "CREATE ROLE reader LOGIN PASSWORD 'r'",
            "GRANT SELECT ON deployment_events, deployment_state TO reader",
        ):
            connection.execute(statement.encode())
    with Ledger(postgres.url(database, "appender", "a")) as appender:
        deploy(appender, 2)
    with Ledger(postgres.url(database, "reader", "r")) as reader:
        assert reader.check() == 2
        with pytest.raises(LedgerError) as caught:
            deploy(reader, 3)
        one_sentence(caught.value, "permission denied")


def test_a_writer_that_never_ends_is_an_error_and_not_a_wait_for_ever(
    ledger: Ledger, postgres: PostgresServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(ledger, 1)
    quick = ("SET LOCAL lock_timeout = '100ms'", module._BEGIN["postgresql", True][1])
    monkeypatch.setitem(module._BEGIN, ("postgresql", True), quick)
    with postgres.connect(database) as other:
        other.execute(f"SELECT pg_advisory_lock({module._LOCK})".encode())
        with pytest.raises(LedgerError) as caught:
            deploy(ledger, 2)
        one_sentence(caught.value, "lock timeout")
        assert ledger.check() == 1  # readers wait for nobody
