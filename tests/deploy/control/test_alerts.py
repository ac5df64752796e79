"""The platform's own evaluation: a real ledger, hand-made looks at the servers, its own clock."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bentos.model_server.metrics import SECONDS
from deploy.control.alert import Alert, AlertsError, read_alerts
from deploy.control.alerts import Alerting
from deploy.control.observer import Observation
from deploy.events import Counters, Event, State
from deploy.gateway.routes import cluster_name
from deploy.home import Home
from deploy.ledger import Ledger, LedgerError
from deploy.monitoring.rules import alerting_rules
from deploy.shared_state import shared_state
from serving_config.load import load
from serving_config.schema import Configuration
from tests.deploy.monitoring.promtool import firing, series
from tests.deploy.releases import change, live

SHIPPED = load(variables={})
NAME = cluster_name("production", "iris", live(3))
GOOD = Observation(recent=Counters(requests=600, durations={"0.0025": 600}), seconds=60.0)
BAD = Observation(recent=Counters(requests=600, errors=30, durations={"0.0025": 600}), seconds=60.0)
SLOW = Observation(
    recent=Counters(requests=600, durations={"0.0025": 580, "0.5": 0, "1.0": 20}), seconds=60.0
)


@dataclass
class World:
    """One control process after another on one home."""

    home: Home
    ledger: Ledger
    configuration: Configuration = SHIPPED
    now: float = 1000.0
    sent: list[Alert] = field(default_factory=list)
    seen: dict[str, Observation] = field(default_factory=dict)

    def start(self) -> None:
        self.alerting = Alerting(
            self.configuration,
            lambda: self.seen,
            self.ledger,
            self.home,
            self.sent.append,
            lambda: self.now,
        )

    def watch(self, observation: Observation | None, seconds: int = 1) -> list[tuple[str, str]]:
        """Tick for so many seconds; what was sent meanwhile: name and state."""
        begun = len(self.sent)
        self.seen = {} if observation is None else {NAME: observation}
        for _ in range(seconds):
            self.now += 1
            self.alerting.tick()
        return [(alert.labels["alertname"], alert.state) for alert in self.sent[begun:]]

    def states(self) -> list[tuple[str, str]]:
        return [(a.labels["alertname"], a.state) for a in self.alerting.current()]

    def record(self, *versions: int, **fields: Any) -> Event:
        base = self.ledger.state("production", "iris")
        weights = dict.fromkeys(versions, 0) | {versions[0]: 100}
        made = change(base, *(live(version, weight) for version, weight in weights.items()))
        return self.ledger.record(replace(made, **fields))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    home = Home(tmp_path / "h").create()
    ledger = Ledger(home.ledger_url)
    made = World(home, ledger)
    made.record(3)
    made.start()
    yield made
    ledger.close()


def test_an_error_rate_fires_after_for_seconds_and_resolves_once(world: World) -> None:
    assert world.watch(GOOD, 20) == []
    assert world.watch(BAD, 15) == []
    assert world.states() == [("HighErrorRate", "pending")]
    assert world.watch(BAD, 20) == [("HighErrorRate", "firing")]
    assert world.watch(GOOD, 20) == [("HighErrorRate", "resolved")]
    fired, resolved = world.sent
    assert fired.fingerprint == resolved.fingerprint
    assert fired.starts_at == resolved.starts_at
    assert fired.labels["version"] == "3"
    assert "5% of its requests fail" in fired.annotations["description"]
    assert "`slipway rollback iris --environment production`" in fired.annotations["description"]


def test_a_limit_passed_for_a_moment_only_sends_nothing(world: World) -> None:
    for _ in range(5):
        assert world.watch(BAD, 10) == []
        assert world.watch(GOOD, 1) == []
    assert world.states() == []


def test_a_new_server_is_pending_only_while_its_limit_is_passed(world: World) -> None:
    bad, good = replaced(BAD, seconds=5.0), replaced(GOOD, seconds=5.0)
    for _ in range(5):
        assert world.watch(bad, 10) == []
        assert world.watch(good, 1) == []
    assert world.watch(bad, 16) == [("HighErrorRate", "firing")]


def test_slow_predictions_fire(world: World) -> None:
    assert world.watch(SLOW, 20) == [("HighLatency", "firing")]


@pytest.mark.parametrize(
    "recent",
    [
        Counters(requests=19, errors=19, durations={"10.0": 19}),
        Counters(requests=1000, refusals=1000),
        Counters(requests=1000, errors=10),
        Counters(),
    ],
)
def test_few_requests_refusals_and_rates_at_the_limit_are_no_alert(
    recent: Counters, world: World
) -> None:
    assert world.watch(Observation(recent=recent, seconds=60), 30) == []


def test_a_server_that_cannot_be_observed_fires_and_keeps_what_fired_before(world: World) -> None:
    world.watch(BAD, 20)
    down = Observation(recent=GOOD.recent, seconds=60.0, failing_since=1.0)
    assert world.watch(down, 20) == [("ModelServerDown", "firing")]
    assert ("HighErrorRate", "firing") in world.states()
    assert ("ModelServerDown", "resolved") in world.watch(GOOD, 1)


def test_a_version_that_leaves_resolves_its_alerts(world: World) -> None:
    world.watch(BAD, 20)
    world.record(4)
    assert world.watch(BAD, 5) == [("HighErrorRate", "resolved")]


def test_a_rollback_of_a_model_that_left_the_settings_is_resolved(world: World) -> None:
    world.record(4, action="rollback", evidence={"from": ["3"]})
    assert world.watch(None) == [("ReleaseRolledBack", "firing")]
    models = {name: item for name, item in SHIPPED.models.items() if name != "iris"}
    world.configuration = SHIPPED.model_copy(update={"models": models})
    world.start()
    assert world.watch(None) == [("ReleaseRolledBack", "resolved")]
    assert world.watch(None) == []


def test_a_model_is_judged_by_the_limits_of_its_environment(world: World) -> None:
    world.configuration = limited(p99_ms=2000.0)
    world.ledger.record(change(State("staging", "iris"), live(3)))
    world.start()
    world.seen = {cluster_name(name, "iris", live(3)): SLOW for name in ("staging", "production")}
    for _ in range(20):
        world.now += 1
        world.alerting.tick()
    assert [alert.labels["environment"] for alert in world.sent] == ["staging"]


def test_what_fires_over_a_restart_is_not_sent_again(world: World) -> None:
    world.watch(BAD, 20)
    world.start()
    assert world.states() == [("HighErrorRate", "firing")]
    # The new process has seen nothing yet, then too little to say that it is over.
    assert world.watch(None, 5) == []
    assert world.watch(Observation(recent=Counters(requests=30), seconds=5.0), 5) == []
    assert world.watch(BAD, 30) == []
    assert world.watch(GOOD, 1) == [("HighErrorRate", "resolved")]


def test_what_resolved_while_nobody_looked_is_sent_as_resolved(world: World) -> None:
    world.watch(BAD, 20)
    world.record(4)
    world.start()
    assert world.watch(None, 1) == [("HighErrorRate", "resolved")]
    world.start()
    assert world.watch(None, 5) == []


def test_alerts_that_were_damaged_stop_nothing(world: World) -> None:
    shared_state(world.home).write("alerts", "current", b"{")
    with pytest.raises(AlertsError, match="cannot be read"):
        read_alerts(world.home)
    world.start()
    assert world.watch(BAD, 20) == [("HighErrorRate", "firing")]
    assert [alert.state for alert in read_alerts(world.home)] == ["firing"]


def test_alerts_that_cannot_be_written_go_out_all_the_same(world: World) -> None:
    world.watch(BAD)
    refuse = (
        "CREATE TRIGGER refuse BEFORE UPDATE ON shared_documents "
        "BEGIN SELECT no_such_function(); END"
    )
    with closing(sqlite3.connect(world.home.root / "ledger.db")) as database:
        database.execute(refuse)
        assert world.watch(BAD, 20) == [("HighErrorRate", "firing")]
        database.execute("DROP TRIGGER refuse")
    world.watch(BAD)
    assert len(read_alerts(world.home)) == 1


def test_a_ledger_that_fails_changes_nothing(world: World) -> None:
    world.watch(BAD, 20)
    (world.home.root / "ledger.db").rename(world.home.root / "moved.db")
    (world.home.root / "ledger.db").write_text("not a database, but long enough to be read as one")
    world.ledger.close()
    with pytest.raises(LedgerError):
        world.watch(GOOD)
    assert world.states() == [("HighErrorRate", "firing")]


def test_a_rollback_fires_at_once_and_resolves_with_the_next_event(world: World) -> None:
    world.record(4, 3, action="promote")
    assert world.watch(None, 2) == []
    world.record(3, action="rollback", evidence={"reason": "5 % <b>errors</b>", "from": ["4"]})
    assert world.watch(None, 3) == [("ReleaseRolledBack", "firing")]
    said = world.sent[-1].annotations["description"]
    assert "From version 4 back to 3, by ann: 5 % <b>errors</b>. Look: `slipway" in said
    world.start()
    assert world.watch(None, 3) == []
    world.record(3, action="healthy")
    assert world.watch(None, 3) == [("ReleaseRolledBack", "resolved")]


def test_the_list_does_not_grow_without_end(world: World) -> None:
    for _ in range(120):
        world.watch(BAD, 17)
        world.watch(GOOD)
    assert len(world.alerting.current()) == 100
    assert len(read_alerts(world.home)) == 100


def local(name: str, recent: Counters, world: World) -> bool:
    seen = Observation(recent=recent, seconds=60.0)
    return (name, "firing") in world.watch(seen, 20)


@pytest.mark.parametrize(
    ("failed", "requests"), [(0, 600), (5, 600), (12, 600), (30, 600), (12, 18), (12, 30)]
)
def test_both_evaluations_agree_on_an_error_rate(
    failed: int, requests: int, world: World, tmp_path: Path
) -> None:
    here = local("HighErrorRate", Counters(requests=requests, errors=failed), world)
    inputs = [
        series("slipway_requests_total", f"0+{count / 60}x300", route="/predict", status=status)
        for status, count in (("200", requests - failed), ("500", failed))
    ]
    firing(tmp_path, alerting_rules(SHIPPED), inputs, {"200s": here}, "HighErrorRate")


@pytest.mark.parametrize(
    ("slow", "bound", "p99_ms"),
    [
        (3, 1.0, 500.0),
        (12, 0.5, 500.0),
        (12, 1.0, 500.0),
        (12, 0.5, 400.0),  # 375 ms, within the bucket
        (20, 0.5, 400.0),  # 425 ms
        (12, 0.1, 100.0),
    ],
)
def test_both_evaluations_agree_on_a_p99(
    slow: int, bound: float, p99_ms: float, world: World, tmp_path: Path
) -> None:
    world.configuration = limited(p99_ms)
    world.start()
    cells = {str(each): 0 for each in SECONDS} | {"0.0025": 600 - slow, str(bound): slow}
    here = local("HighLatency", Counters(requests=600, durations=cells), world)

    def within(le: float) -> int:
        return sum(count for each, count in cells.items() if float(each) <= le)

    name = "slipway_request_duration_seconds_bucket"
    inputs = [
        series(name, f"0+{within(float(le)) / 60}x300", route="/predict", le=le)
        for le in [*map(str, SECONDS), "+Inf"]
    ]
    inputs.append(series("slipway_requests_total", "0+10x300", route="/predict", status="200"))
    firing(tmp_path, alerting_rules(world.configuration), inputs, {"200s": here}, "HighLatency")


def limited(p99_ms: float) -> Configuration:
    production = SHIPPED.environments["production"]
    health = production.release.health.model_copy(update={"p99_ms": p99_ms})
    release = production.release.model_copy(update={"health": health})
    changed = {"production": production.model_copy(update={"release": release})}
    models = {n: m.model_copy(update={"release": {}}) for n, m in SHIPPED.models.items()}
    return SHIPPED.model_copy(
        update={"environments": SHIPPED.environments | changed, "models": models}
    )
