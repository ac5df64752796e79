import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy.analysis.agreement import Agreement
from deploy.control.controller import Controller
from deploy.control.progress import read_progress
from deploy.events import Counters
from deploy.gateway.envoy import GatewayError
from deploy.home import Home
from deploy.ledger import Ledger
from deploy.release import ReleaseError
from deploy.shared_state import shared_state
from deploy.traffic import Traffic
from serving_config.release import ReleasePolicy
from tests.deploy.releases import change, release
from tests.deploy.serving_things import (
    ANN,
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
from tests.deploy.targets.memory import MemoryTarget

OLD, NEW = release(1), release(2)


@dataclass
class Scene:
    """A controller with a clock that is put forward by hand. The ledger's is the real one: after
    each event it is that again."""

    target: MemoryTarget
    home: Home
    ahead: float = 0.0
    written: int = 0
    controller: Controller = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self, ready_seconds: float = 0) -> None:
        """Another controller process, which knows nothing."""
        self.controller = Controller(
            traffic_of(self.target),
            self.home,
            ready_seconds={"staging": ready_seconds},
            clock=self.now,
            executor=AtOnce(),
        )

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead)

    def tick(self, seconds: float = 1.0, times: int = 1) -> None:
        """It looks often enough meanwhile, until something is written."""
        for _ in range(times):
            left = seconds
            while left > 0:
                step = min(left, 20)
                self.away(step)
                self.controller.tick()
                is_written = len(self.target.ledger.events()) > self.written
                left = 0 if is_written else left - step

    def away(self, seconds: float) -> None:
        """Time passes in which nobody looks."""
        written = len(self.target.ledger.events())
        self.ahead = seconds + (self.ahead if written == self.written else 0)
        self.written = written

    def serve(self, which: Any, requests: int = 200, errors: int = 0) -> None:
        """So many requests come, each answered within 10 ms."""
        name = name_of(which)
        before = self.target.counted.get(name, Counters())
        total = before.requests + requests
        self.target.counted[name] = Counters(
            requests=total, errors=before.errors + errors, durations={"0.01": total}
        )

    def actions(self) -> list[str]:
        return [event.action for event in self.target.ledger.events()]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    ledger = Ledger("sqlite://")
    made = Scene(MemoryTarget(ledger), Home(tmp_path).create())
    promote(made.target, OLD)
    yield made
    made.controller.close()
    ledger.close()


def canary(**settings: Any) -> ReleasePolicy:
    return policy("canary", **{"steps": [10, 50], "bake_seconds": 60} | FAST | settings)


def test_a_good_version_goes_from_shadow_by_steps_to_everything_and_the_old_one_leaves(
    scene: Scene,
) -> None:
    target = scene.target
    shadow = {"share": 30, "min_requests": 50, "min_seconds": 5}
    promote(target, NEW, canary(shadow=shadow))
    seen = [weights(target)]
    target.agreed = Agreement(pairs=2000, rows=2000)
    for _ in range(4):
        scene.serve(OLD, 5000)
        scene.serve(NEW, 5000)
        scene.tick(11)
        seen.append(weights(target))
        scene.restart()
    assert seen == [
        {"2": "~30", "1": 100},
        {"2": 10, "1": 90},
        {"2": 50, "1": 50},
        {"2": 100, "1": 0},
        {"2": 100, "1": 0},
    ]
    scene.tick(61)
    scene.tick()
    assert weights(target) == {"2": 100}
    assert scene.actions() == [
        *("promote", "load", "shadow", "canary", "canary", "promote", "healthy")
    ]
    is_settled(target)


def test_each_transition_is_on_the_ledger_with_the_numbers_that_decided_it(scene: Scene) -> None:
    promote(scene.target, NEW, canary())
    scene.serve(OLD, 5000)
    scene.serve(NEW, 5000)
    scene.tick(11)
    event = scene.target.ledger.events()[-1]
    assert (event.action, event.actor, event.dagster_run) == ("canary", "controller", "run-1")
    assert event.evidence["analysis"]["requests"] == 5000
    assert event.evidence["reason"] == event.evidence["analysis"]["reason"]


def test_a_step_goes_on_no_earlier_than_it_has_seen_enough(scene: Scene) -> None:
    promote(scene.target, NEW, canary())
    scene.serve(OLD, 5000)
    scene.tick(50)
    scene.serve(NEW, 99)
    scene.tick()
    assert weights(scene.target) == {"2": 10, "1": 90}
    scene.serve(NEW, 1)
    scene.tick()
    assert weights(scene.target) == {"2": 50, "1": 50}


def test_what_was_counted_before_a_step_is_not_held_against_a_version(scene: Scene) -> None:
    scene.serve(OLD, 5000)
    scene.serve(NEW, 5000, errors=5000)
    promote(scene.target, NEW, canary())
    scene.serve(OLD, 5000)
    scene.serve(NEW, 5000)
    scene.tick(11)
    assert weights(scene.target) == {"2": 50, "1": 50}


def test_a_version_that_fails_is_rolled_back_with_its_numbers_and_leaves(scene: Scene) -> None:
    promote(scene.target, NEW, canary())
    scene.serve(OLD, 1000)
    scene.serve(NEW, 100, errors=50)
    scene.tick()
    assert weights(scene.target) == {"1": 100}
    event = scene.target.ledger.events()[-1]
    assert (event.action, event.evidence["from"]) == ("rollback", ["2"])
    assert "50 % of 100 requests failed" in event.evidence["reason"]
    assert event.evidence["analysis"]["decision"] == "rollback"
    scene.tick()
    is_settled(scene.target)


def test_a_shadow_that_answers_otherwise_is_rolled_back_without_a_client_seeing_it(
    scene: Scene,
) -> None:
    promote(scene.target, NEW, canary(shadow={"min_requests": 50, "min_seconds": 5}))
    scene.target.agreed = Agreement(pairs=400, rows=400, disagreements=200)
    scene.tick()
    assert weights(scene.target) == {"1": 100}


def test_a_step_without_enough_requests_is_given_up_after_its_longest_time(scene: Scene) -> None:
    promote(scene.target, NEW, canary())
    scene.tick(99)
    assert weights(scene.target) == {"2": 10, "1": 90}
    scene.tick(2)
    assert weights(scene.target) == {"1": 100}


@pytest.mark.parametrize("name", ["blue_green", "direct"])
def test_a_fresh_version_that_fails_in_its_bake_time_is_rolled_back(
    name: str, scene: Scene
) -> None:
    promote(scene.target, NEW, policy(name, bake_seconds=60))
    scene.tick()
    assert weights(scene.target)["2"] == 100
    scene.serve(NEW, 1000, errors=200)
    scene.tick()
    scene.tick()
    assert weights(scene.target) == {"1": 100}
    is_settled(scene.target)


def test_a_direct_release_is_healthy_after_its_bake_time(scene: Scene) -> None:
    promote(scene.target, NEW, policy(bake_seconds=60))
    scene.serve(NEW, 1000)
    scene.tick(59)
    assert scene.actions()[-1] == "promote"
    scene.tick(2)
    assert scene.actions()[-1] == "healthy"
    assert weights(scene.target) == {"2": 100}


def test_a_version_that_was_loaded_by_hand_in_a_bake_time_stays(scene: Scene) -> None:
    promote(scene.target, NEW, policy(bake_seconds=60))
    traffic_of(scene.target).load(OLD, PLACE[0], ANN)
    scene.serve(NEW, 1000)
    scene.tick(61)
    scene.tick()
    assert scene.actions()[-1] == "healthy"
    assert weights(scene.target) == {"2": 100, "1": 0}
    is_settled(scene.target)


def test_without_a_bake_time_a_canary_ends_with_its_last_step(scene: Scene) -> None:
    promote(scene.target, NEW, canary(steps=[50], bake_seconds=0))
    scene.serve(OLD, 5000)
    scene.serve(NEW, 5000)
    scene.tick(11)
    scene.tick()
    assert weights(scene.target) == {"2": 100}
    assert scene.target.ledger.events()[-1].phase is None
    is_settled(scene.target)


def test_a_failing_first_version_stays_for_there_is_nothing_to_go_back_to(tmp_path: Path) -> None:
    ledger = Ledger("sqlite://")
    scene = Scene(MemoryTarget(ledger), Home(tmp_path).create())
    promote(scene.target, OLD, canary())
    scene.serve(OLD, 1000, errors=900)
    scene.tick(times=3)
    assert weights(scene.target) == {"1": 100}
    assert scene.actions() == ["promote", "unhealthy"]
    event = ledger.events()[-1]
    assert event.phase is None
    assert "90 % of 1,000 requests failed" in event.evidence["reason"]
    assert "no version in staging to roll back to" in event.evidence["reason"]
    scene.controller.close()
    ledger.close()


def test_another_build_that_fails_in_its_bake_time_goes_back_to_the_old_build(
    scene: Scene,
) -> None:
    again = release(1, build="again")
    old = Traffic(scene.target.ledger, scene.target, lambda live: OLD)
    scene.controller = Controller(
        old, scene.home, ready_seconds={}, clock=scene.now, executor=AtOnce()
    )
    promote(scene.target, again, policy(bake_seconds=60))
    scene.serve(again, 1000, errors=900)
    scene.tick(times=2)
    assert scene.target.ledger.state(*PLACE).live == (OLD.live(),)
    assert scene.target.ledger.events()[-1].evidence["from"] == ["1"]
    is_settled(scene.target)


def test_a_version_that_fails_and_whose_way_back_is_gone_is_given_up_once(scene: Scene) -> None:
    def gone(live: Any) -> Any:
        raise ReleaseError("Bento iris:1 is missing")

    traffic = Traffic(scene.target.ledger, scene.target, gone)
    scene.controller = Controller(
        traffic, scene.home, ready_seconds={}, clock=scene.now, executor=AtOnce()
    )
    promote(scene.target, NEW, policy(bake_seconds=60))
    scene.serve(NEW, 1000, errors=900)
    scene.tick(times=3)
    assert scene.actions() == ["promote", "promote", "unhealthy"]
    assert "Bento iris:1 is missing" in scene.target.ledger.events()[-1].evidence["reason"]


def fails(*names: str) -> Callable[[str], None]:
    def fail(call: str) -> None:
        if call.startswith("observe") and call.removeprefix("observe ") in names:
            raise GatewayError("does not answer")

    return fail


def test_a_candidate_that_is_gone_for_some_looks_in_a_row_is_rolled_back(scene: Scene) -> None:
    promote(scene.target, NEW, canary())
    gone = name_of(NEW)
    port = scene.target.up.pop(gone)
    scene.tick(times=4)
    scene.target.up[gone] = port
    scene.tick()
    del scene.target.up[gone]
    scene.tick(times=4)
    assert weights(scene.target) == {"2": 10, "1": 90}
    scene.tick()
    assert weights(scene.target) == {"1": 100}
    assert "version 2 does not answer" in scene.target.ledger.events()[-1].evidence["reason"]


def test_a_version_with_all_traffic_that_is_gone_is_rolled_back_too(scene: Scene) -> None:
    promote(scene.target, NEW, policy(bake_seconds=60))
    del scene.target.up[name_of(NEW)]
    scene.tick(times=5)
    scene.tick()
    assert weights(scene.target) == {"1": 100}
    is_settled(scene.target)


@pytest.mark.parametrize("name", ["direct", "canary"])
def test_a_version_that_still_loads_after_a_start_of_the_platform_is_not_rolled_back(
    name: str, scene: Scene
) -> None:
    promote(scene.target, NEW, policy(name, bake_seconds=60))
    served, loading = weights(scene.target), name_of(NEW)
    port = scene.target.up.pop(loading)
    scene.restart(ready_seconds=20)
    scene.tick(times=15)
    assert weights(scene.target) == served
    scene.target.up[loading] = port
    scene.tick()
    del scene.target.up[loading]  # it has answered: it is no longer loading
    scene.tick(0.1, times=5)
    assert weights(scene.target)["1"] == 100


def test_a_version_that_never_loads_after_a_start_of_the_platform_is_rolled_back(
    scene: Scene,
) -> None:
    promote(scene.target, NEW, policy(bake_seconds=60))
    del scene.target.up[name_of(NEW)]
    scene.restart(ready_seconds=20)
    scene.tick(times=26)
    assert weights(scene.target)["1"] == 100


@pytest.mark.parametrize("silent", [(OLD,), (OLD, NEW)])
def test_where_the_stable_version_cannot_be_observed_nothing_is_decided(
    silent: tuple[Any, ...], scene: Scene
) -> None:
    promote(scene.target, NEW, canary())
    scene.serve(NEW, 5000, errors=4000)
    scene.target.before = fails(*(name_of(which) for which in silent))
    scene.tick(times=20)
    assert weights(scene.target) == {"2": 10, "1": 90}


def test_a_bake_that_nobody_could_watch_does_not_end_healthy(scene: Scene) -> None:
    promote(scene.target, NEW, policy("blue_green", bake_seconds=60))
    scene.tick(10)
    scene.target.before = fails(name_of(OLD), name_of(NEW))
    scene.tick(100, times=3)
    scene.target.before = lambda call: None
    scene.tick()
    scene.tick(48)
    assert weights(scene.target) == {"2": 100, "1": 0}
    scene.tick(3)
    assert weights(scene.target) == {"2": 100}


@pytest.mark.parametrize("looked", [False, True])
def test_time_in_which_the_platform_is_down_is_no_time_of_a_canary(
    looked: bool, scene: Scene
) -> None:
    promote(scene.target, NEW, canary())
    if looked:
        scene.tick(90)
    scene.away(7200)
    scene.restart()
    scene.tick(5)
    assert weights(scene.target) == {"2": 10, "1": 90}
    scene.tick(101)
    event = scene.target.ledger.events()[-1]
    assert "only 0 of 100 requests came in 1" in event.evidence["reason"]


@pytest.mark.parametrize("before", [0, 40])
def test_time_in_which_the_platform_is_down_is_no_time_of_a_bake(before: int, scene: Scene) -> None:
    promote(scene.target, NEW, policy(bake_seconds=60))
    scene.tick(before)
    scene.away(7200)
    scene.restart()
    scene.tick()
    scene.tick(59 - before)
    assert scene.actions()[-1] == "promote"
    scene.tick(2)
    assert scene.actions()[-1] == "healthy"


def test_a_look_that_was_damaged_stops_nothing(scene: Scene) -> None:
    promote(scene.target, NEW, policy(bake_seconds=60))
    scene.tick()
    (written,) = shared_state(scene.home).all("progress")
    shared_state(scene.home).write("progress", written.key, written.data[:20])
    scene.tick(61)
    assert scene.actions()[-1] == "healthy"


def test_each_look_is_there_to_be_read_until_the_release_is_over(scene: Scene) -> None:
    promote(scene.target, NEW, canary())
    scene.serve(NEW, 60)
    scene.tick()
    progress = read_progress(scene.home, *PLACE)
    assert progress is not None
    assert (progress.phase, progress.step, progress.weight) == ("canary", 0, 10)
    assert (progress.candidate, progress.stable, progress.generation) == ("2", "1", 3)
    assert (progress.analysis.requests, progress.wanted_requests) == (60, 100)
    traffic_of(scene.target).rollback(*PLACE, ANN, "enough")
    scene.tick()
    assert read_progress(scene.home, *PLACE) is None


def test_a_split_by_hand_ends_the_release_for_the_controller_too(scene: Scene) -> None:
    promote(scene.target, NEW, canary())
    traffic_of(scene.target).split(*PLACE, {"1": 70, "2": 30}, ANN)
    scene.serve(NEW, 5000, errors=4000)
    scene.tick(times=20)
    assert weights(scene.target) == {"2": 30, "1": 70}


def test_one_models_error_stops_no_other_and_is_told_once(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    other = release(2, model="spam")
    target = scene.target
    promote(target, release(1, model="spam"))
    promote(target, other, canary())
    promote(target, NEW, canary())

    def fail(call: str) -> None:
        if call == f"observe {name_of(NEW)}":
            raise RuntimeError("something that nobody thought of")

    target.before = fail
    scene.serve(release(1, model="spam"), 5000)
    scene.serve(other, 5000)
    scene.tick(11, times=3)
    assert weights(target, model="spam")["2"] == 50
    assert weights(target) == {"2": 10, "1": 90}
    told = [record.getMessage() for record in caplog.records]
    assert told == ["iris staging: something that nobody thought of"]


def test_a_phase_that_nobody_can_read_stops_no_other_model(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    target = scene.target
    broken = change(target.ledger.state(*PLACE), OLD.live())
    target.ledger.record(msgspec.structs.replace(broken, evidence={"phase": {"name": "pause"}}))
    promote(target, release(1, model="spam"))
    promote(target, release(2, model="spam"), policy(bake_seconds=60))
    scene.tick(61, times=2)
    assert weights(target, model="spam") == {"2": 100}
    assert scene.actions()[-1] == "healthy"
    assert len(caplog.records) == 1
    assert "iris staging: event 2 holds no phase" in caplog.text


def test_twenty_canaries_at_once_go_on_together(scene: Scene) -> None:
    names = [f"model-{number}" for number in range(20)]
    for model in names:
        promote(scene.target, release(1, model=model))
        promote(scene.target, release(2, model=model), canary())
        scene.serve(release(1, model=model), 5000)
        scene.serve(release(2, model=model), 5000)
    scene.tick(11)
    assert all(weights(scene.target, model=model)["2"] == 50 for model in names)


def test_a_gateway_that_fell_behind_is_brought_after_the_ledger(scene: Scene) -> None:
    scene.target.routed, scene.target.states = set(), {}
    scene.tick()
    is_settled(scene.target)


def test_a_gateway_that_takes_no_route_does_not_fill_the_ledger(scene: Scene) -> None:
    promote(scene.target, NEW, canary())
    scene.serve(OLD, 5000)
    scene.serve(NEW, 5000)

    def fail(call: str) -> None:
        if call == "route":
            raise GatewayError("the gateway did not take rds")

    scene.target.before = fail
    scene.tick(11)
    scene.tick(0.5, times=10)
    assert scene.actions() == ["promote", "load", "canary", "canary", "revert"]
    scene.target.before = lambda call: None
    while weights(scene.target) != {"2": 100, "1": 0}:
        scene.serve(OLD, 5000)
        scene.serve(NEW, 5000)
        scene.tick(11)


def test_a_leftover_is_stopped_but_no_server_that_somebody_is_starting(scene: Scene) -> None:
    target, coming = scene.target, release(3)
    target.up[name_of(release(5))] = 1
    ticked = []

    def tick_once(call: str) -> None:
        if call == f"wait_ready {name_of(coming)}":
            scene.tick()
            ticked.append(set(target.up))

    target.before = tick_once
    promote(target, coming)
    assert ticked == [{name_of(OLD), name_of(coming)}]
    is_settled(target)


def test_of_a_rollback_and_the_controllers_promotion_at_the_same_moment_one_wins(
    scene: Scene,
) -> None:
    promote(scene.target, NEW, canary(steps=[50]))
    scene.serve(OLD, 5000)
    scene.serve(NEW, 5000)

    def roll_back(call: str) -> None:
        if call.startswith("observe"):
            scene.target.before = lambda call: None
            traffic_of(scene.target).rollback(*PLACE, ANN, "I do not like it")

    scene.target.before = roll_back
    scene.tick(11)
    assert weights(scene.target) == {"1": 100}
    assert scene.actions()[-1] == "rollback"
    scene.tick()
    is_settled(scene.target)


def test_a_canary_with_little_traffic_gets_golden_requests_until_it_is_over(scene: Scene) -> None:
    asked: list[str] = []
    enough = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["content-length"])).decode())
            self.send_response(500)
            self.send_header("content-length", "0")
            self.end_headers()
            if len(asked) > 16:
                enough.set()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        scene.target.url = f"http://127.0.0.1:{server.server_port}"
        promote(scene.target, NEW, canary(probe_requests_per_second=200))
        scene.tick()
        assert enough.wait(10)
        traffic_of(scene.target).rollback(*PLACE, ANN, "enough")
        scene.tick()
        scene.controller.close()
        sent = len(asked)
        server.shutdown()
    assert len(asked) == sent
    assert set(asked) == {'{"features": {"width": 1.0}}', '{"features": {"width": 2.0}}'}


def test_golden_requests_that_cannot_be_made_do_not_stop_the_controller(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(_: Any) -> Any:
        raise FileNotFoundError("no Bento")

    traffic = Traffic(scene.target.ledger, scene.target, gone)
    controller = Controller(
        traffic, scene.home, ready_seconds={}, clock=scene.now, executor=AtOnce()
    )
    promote(scene.target, NEW, canary(probe_requests_per_second=10))
    controller.tick()
    controller.close()
    assert "no golden requests for iris: no Bento" in caplog.text
