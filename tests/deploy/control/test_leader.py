"""Several control processes on one real PostgreSQL: one of them leads."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from deploy.control.alert import Alert, read_alerts
from deploy.control.alerts import Alerting
from deploy.control.leader import Leader
from deploy.control.listener import address, is_public
from deploy.control.observer import Observation
from deploy.events import Counters, LedgerError
from deploy.gateway.routes import cluster_name
from deploy.home import Home
from deploy.keys import KeyStore
from deploy.ledger import Ledger
from deploy.processes import free_port
from deploy.shared_state import close_shared_states
from serving_config.load import load
from serving_config.parts import ControlProcess
from serving_config.schema import Platform
from tests.deploy.postgres_server import PostgresServer, postgres_server
from tests.deploy.releases import change, live

CHECKOUT = Path(__file__).parents[3]
SECONDS = 30


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    yield postgres.url(postgres.create_database())
    close_shared_states()


def until(done: Callable[[], bool], seconds: float = SECONDS) -> float:
    """Wait; returns how long it took."""
    began = time.monotonic()
    while not done():
        assert time.monotonic() - began < seconds
        time.sleep(0.05)
    return time.monotonic() - began


@contextmanager
def replicas(url: str, count: int = 2) -> Iterator[list[Leader]]:
    with ExitStack() as stack:
        made = [Leader(url) for _ in range(count)]
        for leader in made:
            stack.callback(leader.close)
        yield made


def test_one_leads_and_the_next_one_takes_over_when_it_leaves(url: str) -> None:
    with replicas(url, 3) as (one, two, three):
        for _ in range(3):
            assert [one.leads(), two.leads(), three.leads()] == [True, False, False]
        one.close()
        until(two.leads)
        assert [three.leads(), two.leads()] == [False, True]


def test_only_the_leader_acts_and_is_told_when_that_changes(url: str) -> None:
    told: list[str] = []
    one = Leader(url, lambda: told.append("one took"), lambda: told.append("one lost"))
    two = Leader(url, lambda: told.append("two took"))
    acts = [one.led(lambda: told.append("one")), two.led(lambda: told.append("two"))]
    try:
        for act in acts * 2:
            act()
        assert told == ["one took", "one", "one"]
        told.clear()
        one.close()
        until(two.leads)
        acts[1]()
        acts[0]()
        assert told == ["one lost", "two took", "two"]
    finally:
        one.close()
        two.close()


def test_a_leader_whose_session_was_ended_does_nothing_more(
    url: str, postgres: PostgresServer
) -> None:
    acts: list[str] = []
    with replicas(url) as (one, two):
        act = one.led(lambda: acts.append("one"))
        act()
        assert not two.leads()
        with postgres.connect(url.rpartition("/")[2]) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' "
                "AND granted AND pid <> pg_backend_pid()"
            )
        until(two.leads)
        with pytest.raises(LedgerError, match="no leader, the ledger's database fails"):
            act()
        act()
        assert acts == ["one"]
        assert two.leads()


def test_nobody_leads_while_the_database_is_away() -> None:
    with postgres_server() as server, replicas(server.url("postgres")) as (one, two):
        assert one.leads()
        server.stop()
        for leader in (one, two, one):
            with pytest.raises(LedgerError) as caught:
                leader.leads()
            assert "p%40ss" not in str(caught.value)
            assert "\n" not in str(caught.value)
            assert not leader.leading
        server.start()
        assert [two.leads(), one.leads()] == [True, False]


def test_who_cannot_take_over_does_not_lead_until_it_can(url: str) -> None:
    failing = [True]

    def took() -> None:
        if failing:
            failing.clear()
            raise LedgerError("the state cannot be read")

    leader = Leader(url, took)
    try:
        with pytest.raises(LedgerError, match="cannot be read"):
            leader.leads()
        assert not leader.leading
        assert leader.leads()
    finally:
        leader.close()


def test_with_sqlite_the_one_process_leads(tmp_path: Path) -> None:
    leader = Leader(f"sqlite:///{tmp_path}/ledger.db")
    assert leader.leads()
    leader.close()
    assert leader.leads()
    assert list(tmp_path.iterdir()) == []


@dataclass
class Replica:
    """Its alerts, as if it led, whatever the others think."""

    home: Home
    ledger: Ledger
    seen: dict[str, Observation] = field(default_factory=dict)
    sent: list[Alert] = field(default_factory=list)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.alerting = Alerting(
            load(variables={}),
            lambda: self.seen,
            self.ledger,
            self.home,
            self.sent.append,
            lambda: self.now,
        )

    def tick(self, observation: Observation) -> None:
        self.now += 1
        self.seen = {cluster_name("production", "iris", live(3)): observation}
        self.alerting.tick()


BAD = Observation(recent=Counters(requests=600, errors=30), seconds=60.0)
GOOD = Observation(recent=Counters(requests=600), seconds=60.0)


def test_alerts_are_sent_once_though_two_believe_to_lead(url: str, tmp_path: Path) -> None:
    home = Home(tmp_path, configured_ledger=url)
    with Ledger(url) as ledger:
        ledger.record(change(ledger.state("production", "iris"), live(3)))
        one, two = Replica(home, ledger), Replica(home, ledger)
        for _ in range(60):
            one.tick(BAD)
            two.tick(BAD)
        sent = [alert.state for replica in (one, two) for alert in replica.sent]
        assert sent == ["firing"]
        for _ in range(60):
            one.tick(GOOD)
            two.tick(GOOD)
        sent = [alert.state for replica in (one, two) for alert in replica.sent]
        assert sorted(sent) == ["firing", "resolved"]
        assert [alert.state for alert in read_alerts(home)] == ["resolved"]


@contextmanager
def process(home: Home, url: str, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    environment = os.environ | {
        "SLIPWAY_HOME": str(home.root),
        "SLIPWAY_CONFIG": str(CHECKOUT / "serving_config"),
        "SLIPWAY_LEDGER_URL": url,
        "SLIPWAY_CONTROL_PORT": str(port),
    }
    command = [sys.executable, "-m", "deploy.control"]
    with (
        (home.logs / "control.log").open("ab") as log,
        subprocess.Popen(command, env=environment, cwd=CHECKOUT, stderr=log) as started,
    ):
        try:
            yield started
        finally:
            started.kill()


def says(home: Home, words: str) -> bool:
    lines = (home.logs / "control.log").read_text().splitlines()
    return any(words in json.loads(line)["message"] for line in lines if line.startswith("{"))


def test_both_processes_answer_and_the_other_one_leads_after_a_kill(
    url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    homes = [Home(tmp_path_factory.mktemp(name)).create() for name in ("a", "b")]
    ports = [free_port(), free_port()]
    with process(homes[0], url, ports[0]) as one:
        until(lambda: says(homes[0], "leads now"))
        with process(homes[1], url, ports[1]):
            until(lambda: answers(ports[1]))
            assert answers(ports[0])
            assert not says(homes[1], "leads now")
            one.send_signal(signal.SIGKILL)
            assert until(lambda: says(homes[1], "leads now")) < 5
            key = KeyStore(homes[1]).add("ann", ["admin"])
            until(lambda: ask(ports[1], "/v1/alerts", key) == 200)
            assert ask(ports[1], "/v1/alerts", "wrong") == 401


def ask(port: int, path: str, key: str = "") -> int:
    return httpx.get(f"http://127.0.0.1:{port}{path}", headers={"X-API-Key": key}).status_code


def answers(port: int) -> bool:
    try:
        return ask(port, "/v1/health") == 200
    except httpx.TransportError:
        return False


def test_it_listens_where_the_platform_does_and_others_than_this_machine_need_a_key() -> None:
    assert address(Platform()) is None
    here = address(Platform(control=ControlProcess(port=8081)))
    assert here == ("127.0.0.1", 8081)
    everywhere = address(Platform(host="0.0.0.0", control=ControlProcess(port=8081)))  # noqa: S104
    assert [is_public(place) for place in (everywhere, here, None)] == [True, False, False]
