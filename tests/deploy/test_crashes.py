"""A kill at any moment of any change: production is wholly old or wholly new, and the same change
again, or the controller, ends where an undisturbed one would have."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.analysis.agreement import Agreement
from deploy.control.controller import Controller
from deploy.events import Change, Counters, Event
from deploy.home import Home
from deploy.ledger import Ledger
from deploy.traffic import NothingToRollBackToError
from tests.deploy.releases import release
from tests.deploy.serving_things import (
    ANN,
    FAILED,
    FAST,
    PLACE,
    AtOnce,
    is_settled,
    name_of,
    policy,
    promote,
    traffic_of,
    weights,
)
from tests.deploy.targets.memory import Crash, MemoryTarget

OLD, NEW, THIRD = release(1), release(2), release(3)
CANARY = policy("canary", steps=[10, 50], bake_seconds=60, **FAST)
SHADOW = policy("canary", steps=[10], bake_seconds=60, shadow={"min_seconds": 0.001}, **FAST)


class FragileLedger(Ledger):
    """Its process may be killed before and after each write."""

    before: Callable[[str], None] = staticmethod(lambda call: None)
    after: Callable[[str], None] = staticmethod(lambda call: None)

    def record(self, change: Change) -> Event:
        self.before(f"record {change.action}")
        event = super().record(change)
        self.after(f"record {change.action}")
        return event


@dataclass
class World:
    """Everything outside of the process that is killed."""

    target: MemoryTarget
    home: Home

    @property
    def traffic(self) -> Any:
        return traffic_of(self.target)

    def tick(self) -> None:
        """A controller process that looks twice: at the release, and at what is left over."""
        executor: Executor = AtOnce()
        controller = Controller(self.traffic, self.home, ready_seconds={}, executor=executor)
        controller.tick()
        controller.tick()
        controller.close()

    @contextmanager
    def killed_at(self, moment: int) -> Iterator[None]:
        """At the moment of that number; a dead process does nothing more."""
        left = [moment]

        def die(call: str) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Crash(call)

        ledger: Any = self.target.ledger
        self.target.before = self.target.after = ledger.before = ledger.after = die
        try:
            yield
        finally:
            self.target.before = self.target.after = lambda call: None
            ledger.before = ledger.after = lambda call: None

    def describe(self) -> Any:
        """What serves, as far as it may not depend on a kill."""
        last = self.target.ledger.last_event(*PLACE)
        assert last is not None
        phase = last.phase
        return last.live, phase and (phase.name, phase.candidate, phase.step)


def serve(world: World, bad: bool = False) -> None:
    """Enough requests that the controller goes on, or back."""
    world.target.agreed = Agreement(pairs=5000, rows=5000, disagreements=4000 if bad else 0)
    for which in (OLD, NEW):
        errors = 2500 if bad and which is NEW else 0
        counted = Counters(requests=5000, errors=errors, durations={"0.01": 5000})
        world.target.counted[name_of(which)] = counted


def one_live(world: World) -> None:
    promote(world.target, OLD)


def two_live(world: World) -> None:
    one_live(world)
    world.traffic.load(NEW, "staging", ANN)


def two_released(world: World) -> None:
    one_live(world)
    promote(world.target, NEW)


def in_phase(which: Any, bad: bool = False) -> Callable[[World], None]:
    def prepare(world: World) -> None:
        one_live(world)
        promote(world.target, NEW, which)
        serve(world, bad)

    return prepare


def by(which: Any) -> Callable[[World], None]:
    return lambda world: ignored(promote(world.target, NEW, which))


def ignored(_: object) -> None:
    pass


def refused(world: World) -> None:
    """A release whose candidate the gate refuses."""
    with pytest.raises(RuntimeError, match="golden rows differ"):
        promote(world.target, NEW, CANARY, lambda request, state: FAILED)


def rolled_back(world: World) -> None:
    # Killed after all was done, it cannot be told from one who wants to go back further.
    with suppress(NothingToRollBackToError):
        world.traffic.rollback(*PLACE, ANN, "slow")
    world.traffic.tidy(*PLACE)


NO_WAIT = FAST | {"min_seconds": 0.001}
STEP = policy("canary", steps=[10, 50], bake_seconds=60, **NO_WAIT)
LAST = policy("canary", steps=[10], bake_seconds=60, **NO_WAIT)
LAST_WITHOUT_BAKE = policy("canary", steps=[10], bake_seconds=0, **NO_WAIT)
BAKED = policy("blue_green", bake_seconds=0.001)
BAKING = policy("blue_green", bake_seconds=60)

# What is there before, and what is done then.
CHANGES: dict[str, tuple[Callable[[World], None], Callable[[World], None]]] = {
    "direct": (one_live, by(policy())),
    "direct that bakes": (one_live, by(policy(bake_seconds=60))),
    "blue_green": (one_live, by(policy("blue_green"))),
    "blue_green that bakes": (one_live, by(BAKING)),
    "canary": (one_live, by(CANARY)),
    "shadow": (one_live, by(SHADOW)),
    "a candidate that is refused": (one_live, refused),
    "split": (two_live, lambda world: world.traffic.split(*PLACE, {"1": 30, "2": 70}, ANN)),
    "load": (one_live, lambda world: world.traffic.load(NEW, "staging", ANN)),
    "retire": (two_live, lambda world: world.traffic.retire(*PLACE, "2", ANN)),
    "rollback": (two_released, rolled_back),
    "rollback of a canary": (in_phase(CANARY), rolled_back),
    "rollback while it bakes": (in_phase(BAKING), rolled_back),
    "split in a canary": (
        in_phase(CANARY),
        lambda world: world.traffic.split(*PLACE, {"1": 100}, ANN),
    ),
    "controller: shadow to canary": (in_phase(SHADOW), World.tick),
    "controller: next step": (in_phase(STEP), World.tick),
    "controller: everything": (in_phase(LAST), World.tick),
    "controller: everything, no bake": (in_phase(LAST_WITHOUT_BAKE), World.tick),
    "controller: healthy": (in_phase(BAKED), World.tick),
    "controller: rollback": (in_phase(CANARY, bad=True), World.tick),
    "controller: rollback of all": (in_phase(BAKING, bad=True), World.tick),
    "controller: rollback to one that left": (
        in_phase(policy(bake_seconds=60), bad=True),
        World.tick,
    ),
}


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[], World]]:
    ledger = FragileLedger("sqlite://")  # one: its compiled queries are what takes time

    def fresh() -> World:
        with ledger._database.engine.begin() as connection:
            for table in ("deployment_events", "deployment_state"):
                connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608
        return World(MemoryTarget(ledger), Home(tmp_path).create())

    yield fresh
    ledger.close()


def undisturbed(world: World, act: Callable[[World], None]) -> tuple[Any, list[Any]]:
    """What it ends with, and every state on the way, with the one before."""
    generation = world.target.ledger.state(*PLACE).generation
    act(world)
    on_the_way = [
        event.live for event in world.target.ledger.events() if event.generation >= generation
    ]
    return world.describe(), on_the_way


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("again", ["the same again", "the controller"])
def test_after_a_kill_at_any_moment(name: str, again: str, make: Callable[[], World]) -> None:
    prepare, act = CHANGES[name]
    world = make()
    prepare(world)
    goal, on_the_way = undisturbed(world, act)
    moment, was_killed = 0, True
    while was_killed:
        world = make()
        prepare(world)
        was_killed = False
        try:
            with world.killed_at(moment):
                act(world)
        except Crash:
            was_killed = True
        # Wholly old or wholly new, and nobody is without a server.
        assert world.target.ledger.state(*PLACE).live in on_the_way, moment
        assert world.target.unserved() == set(), moment
        world.target.ledger.check()
        if again == "the controller" and was_killed:
            world.tick()
            is_settled(world.target)
        else:
            act(world)
            if not name.startswith("controller"):
                world.traffic.tidy(*PLACE)
            assert world.describe() == goal, moment
            is_settled(world.target)
        moment += 1
    assert moment > 2, "there was nothing to be killed at"


ALTERNATING = """
import sys
from deploy.ledger import Ledger
from tests.deploy.releases import release
from tests.deploy.serving_things import ANN, PLACE, promote, traffic_of
from tests.deploy.targets.memory import MemoryTarget

target = MemoryTarget(Ledger(sys.argv[1]))
traffic = traffic_of(target)
target.up = {name: 1 for name in sys.argv[2:]}
while True:
    traffic.split(*PLACE, {"1": 30, "2": 70}, ANN)
    print("begun", flush=True)
    traffic.split(*PLACE, {"1": 100}, ANN)
    promote(target, release(2))
    traffic.rollback(*PLACE, ANN, "slow")
    traffic.load(release(2), "staging", ANN)
    traffic.tidy(*PLACE)
"""


def test_a_ledger_on_disk_is_whole_after_each_sigkill_and_the_next_process_goes_on(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    ledger = Ledger(url)
    target = MemoryTarget(ledger)
    promote(target, OLD)
    traffic_of(target).load(NEW, "staging", ANN)
    allowed = [{"1": 100, "2": 0}, {"1": 30, "2": 70}, {"2": 100}, {"1": 100}]
    for pause in (0.06, 0.11, 0.19, 0.3):
        before = len(ledger.events())
        command = [sys.executable, "-c", ALTERNATING, url, name_of(OLD), name_of(NEW)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path.cwd()) as process:
            assert process.stdout is not None
            try:
                assert process.stdout.readline() == b"begun\n"
                with suppress(subprocess.TimeoutExpired):  # a moment that nobody has chosen
                    process.wait(pause)
                assert process.poll() is None, "it failed before it was killed"
            finally:
                process.kill()
        ledger.check()
        assert len(ledger.events()) > before, "nothing was in progress"
        assert weights(target) in allowed
        promote(target, OLD)
        traffic_of(target).load(NEW, "staging", ANN)
    ledger.check()
    ledger.close()
