"""The production deployment as Dagster runs it: real ledger and rollout, servers in memory."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import msgspec
import pytest

from bentos.model_server.contract import Entity, FeatureSource
from deploy.dagster_names import POLICY_TAG
from deploy.events import Phase, State
from deploy.ledger import Ledger
from deploy.release import Release
from deploy.rollout import Outcome, Request, roll_out
from deploy.traffic import Actor, Traffic
from orchestration.defs.lifecycle import follow
from orchestration.defs.lifecycle.deployments import CANARY_CHECK, production_deployment
from orchestration.defs.lifecycle.jobs import rollback_job
from orchestration.defs.lifecycle.names import Names
from orchestration.resources.registry import Registry
from orchestration.resources.serving import Serving
from serving_config.load import FOLDER
from serving_config.release import ReleasePolicy
from serving_config.schema import Model
from tests.deploy.releases import contract, live, release
from tests.deploy.targets.memory import MemoryTarget
from tests.orchestration.features.homes import describe
from tests.orchestration.lifecycle.ledgers import analysis, append, verdict

pytestmark = pytest.mark.filterwarnings("ignore:Specifying a partitions_def on an AssetCheckSpec")
IRIS = Model(name="iris")


class InMemory(Serving):
    """Releases made by hand on a target in memory."""

    def release(self, model: str, version: int | str) -> Release:
        return release(int(version), model=model)

    @contextmanager
    def traffic(self) -> Iterator[Traffic]:
        with self.open_ledger() as ledger:
            target = MemoryTarget(ledger)
            for state in ledger.states().values():
                for item in state.live:
                    target.start(release(item.version), state.environment)
            target.route()
            yield Traffic(ledger, target, lambda item: release(item.version))

    def roll_out(self, request: Request) -> Outcome:
        with self.traffic() as traffic:
            return roll_out(
                traffic.ledger, traffic.target, request, lambda *_: analysis("promote", "same")
            )


@pytest.fixture
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InMemory:
    monkeypatch.delenv("SLIPWAY_LEDGER_URL", raising=False)
    return InMemory(home=str(tmp_path), config_folder=str(FOLDER))


Materialize = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def materialize(serving: InMemory) -> Materialize:
    def run(version: int, model: Model = IRIS, **tags: str) -> dg.ExecuteInProcessResult:
        names = Names("iris")
        job = dg.define_asset_job("job", selection=[names.asset("production_deployment")])
        definitions = dg.Definitions(
            assets=[production_deployment(model)],
            jobs=[job],
            resources={"serving": serving, "registry": Registry(tracking_uri="http://nowhere")},
        )
        with dg.instance_for_test() as instance:
            instance.add_dynamic_partitions("iris_versions", [str(version)])
            return definitions.resolve_job_def("job").execute_in_process(
                instance=instance, partition_key=str(version), tags=tags, raise_on_error=False
            )

    return run


@contextmanager
def controller(serving: InMemory, act: Callable[[Ledger], Any]) -> Iterator[None]:
    """Once a canary has begun, does as told."""
    gave_up = threading.Event()

    def watch() -> None:
        with serving.open_ledger() as ledger:
            while not gave_up.wait(0.05):
                last = ledger.last_event("production", "iris")
                if last is not None and last.action == "canary":
                    act(ledger)
                    return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        gave_up.set()
        thread.join()


def first_version(serving: InMemory) -> None:
    with serving.open_ledger() as ledger:
        append(ledger, "promote", live(1), actor="ann")


def check_of(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    (found,) = result.get_asset_check_evaluations()
    assert found.check_name == CANARY_CHECK
    return found


def metadata_of(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node("iris__production_deployment")
    return {name: value.value for name, value in event.metadata.items()}


def test_a_canary_is_followed_until_it_has_all_traffic(
    serving: InMemory, materialize: Materialize
) -> None:
    first_version(serving)
    done = verdict("promote", "no difference found")
    with controller(serving, lambda x: append(x, "promote", live(2), live(1, 0), **done)):
        result = materialize(2)
    assert result.success
    assert check_of(result).passed
    metadata = metadata_of(result)
    assert (metadata["policy"], metadata["previous_version"]) == ("canary", "1")
    assert "slipway rollback iris" in metadata["roll_back"]


def test_a_canary_that_was_rolled_back_fails_with_its_reason_and_its_numbers(
    serving: InMemory, materialize: Materialize
) -> None:
    first_version(serving)
    back = verdict("rollback", "10 % of the requests failed", 20)
    with controller(serving, lambda x: append(x, "rollback", live(1), **back)):
        result = materialize(2)
    assert not result.success
    assert not check_of(result).passed
    assert check_of(result).metadata["reason"].value == "10 % of the requests failed"
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert failure.step_failure_data.user_failure_data is not None
    assert failure.step_failure_data.user_failure_data.description == (
        "rolled back: 10 % of the requests failed"
    )


def test_a_run_that_is_tried_again_follows_the_release_that_it_finds(
    serving: InMemory, materialize: Materialize
) -> None:
    first_version(serving)
    with serving.traffic() as traffic:
        policy = serving.configuration.release_policy("production", "iris")
        request = Request(release(2), "production", "promote", "ann", policy=policy)
        roll_out(traffic.ledger, traffic.target, request, lambda *_: analysis("promote", "same"))
    done = verdict("promote", "no difference found")
    with controller(serving, lambda x: append(x, "promote", live(2), live(1, 0), **done)):
        result = materialize(2)
    assert result.success
    actions = [event.action for event in serving.events("iris", "production")]
    assert actions == ["promote", "load", "canary", "promote"]


def test_a_run_that_is_tried_again_does_not_undo_the_rollback_of_meanwhile(
    serving: InMemory, materialize: Materialize
) -> None:
    first_version(serving)
    with serving.traffic() as traffic:
        policy = serving.configuration.release_policy("production", "iris")
        request = Request(release(2), "production", "promote", "ann", "run-1", policy=policy)
        roll_out(traffic.ledger, traffic.target, request, lambda *_: analysis("promote", "same"))
        back = verdict("rollback", "10 % of the requests failed", 20)
        append(traffic.ledger, "rollback", live(1), actor="bob", **back)
    result = materialize(2, **{"dagster/parent_run_id": "run-1", "dagster/root_run_id": "run-0"})
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "rolled back: 10 % of the requests failed" in str(failure.step_failure_data)
    assert serving.events("iris", "production")[-1].action == "rollback"


def test_a_version_whose_features_are_no_longer_defined_is_refused_before_it_is_started(
    serving: InMemory, materialize: Materialize
) -> None:
    source = FeatureSource("flowers", (Entity("flower", "int64"),), ("width",))
    exported = msgspec.structs.replace(contract(version=2), feature_source=source)
    serving.folder("iris", 2).write_export(b"", exported)
    describe(serving.paths.create())
    result = materialize(2, Model(name="iris", feature_service="flowers"))
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert failure.step_failure_data.user_failure_data is not None
    said = failure.step_failure_data.user_failure_data.description
    assert "no feature service 'flowers' in project test; there is: churn" in str(said)
    assert serving.events("iris", "production") == []


def test_a_run_that_nobody_asked_for_waits_until_the_version_before_has_baked(
    serving: InMemory, materialize: Materialize, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "_BAKE_POLL_SECONDS", 0.01)
    first_version(serving)
    with serving.traffic() as traffic:
        policy = ReleasePolicy(policy="direct", bake_seconds=60)
        request = Request(release(2), "production", "promote", "ann", policy=policy)
        roll_out(traffic.ledger, traffic.target, request)
    asked: list[str] = []

    def baked(ledger: Ledger) -> None:
        asked.append("looked")
        if len(asked) == 2:
            append(ledger, "rollback", live(1), **verdict("rollback", "too slow", 20))

    looked = follow.watched_bake

    def look(ledger: Ledger, request: Request) -> Phase | None:
        baked(ledger)
        return looked(ledger, request)

    monkeypatch.setattr(follow, "watched_bake", look)
    done = verdict("promote", "no difference found")
    with controller(serving, lambda x: append(x, "promote", live(3), live(1, 0), **done)):
        result = materialize(3, **{"slipway/automatic": "true"})
    assert result.success
    events = serving.events("iris", "production")
    assert [event.action for event in events][2:] == ["rollback", "load", "canary", "promote"]
    assert [item.label for item in events[4].live] == ["3", "1"]


def test_a_person_is_told_that_the_version_before_bakes(
    serving: InMemory, materialize: Materialize
) -> None:
    first_version(serving)
    with serving.traffic() as traffic:
        policy = ReleasePolicy(policy="direct", bake_seconds=60)
        request = Request(release(2), "production", "promote", "ann", policy=policy)
        roll_out(traffic.ledger, traffic.target, request)
    result = materialize(3)
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "version 2 is in its bake time" in str(failure.step_failure_data)


def test_a_person_may_choose_another_policy_and_then_nothing_is_compared(
    serving: InMemory, materialize: Materialize
) -> None:
    first_version(serving)
    result = materialize(2, **{POLICY_TAG: "direct"})
    assert result.success
    assert result.get_asset_check_evaluations() == []
    assert metadata_of(result)["policy"] == "direct"
    with serving.open_ledger() as ledger:
        assert [item.weight for item in ledger.state("production", "iris").live] == [100]


def test_a_policy_that_there_is_not_changes_nothing(
    serving: InMemory, materialize: Materialize
) -> None:
    first_version(serving)
    assert not materialize(2, **{POLICY_TAG: "yolo"}).success
    with serving.open_ledger() as ledger:
        assert ledger.state("production", "iris").generation == 1


def test_a_run_that_nobody_asked_for_puts_no_old_version_in_front(
    serving: InMemory, materialize: Materialize
) -> None:
    first_version(serving)
    with serving.open_ledger() as ledger:
        append(ledger, "promote", live(3))
    result = materialize(2, **{"slipway/automatic": "true"})
    assert result.success
    assert result.asset_materializations_for_node("iris__production_deployment") == []
    with serving.open_ledger() as ledger:
        assert [item.version for item in ledger.state("production", "iris").live] == [3]


def test_a_rollback_job_goes_back_and_says_who_and_why(serving: InMemory) -> None:
    first_version(serving)
    with serving.traffic() as traffic:
        append(traffic.ledger, "promote", live(2), live(1, 0))
        assert traffic.ledger.state("production", "iris") != State("production", "iris")
    config = {"ops": {"iris_rollback_now": {"config": {"reason": "too many complaints"}}}}
    job = rollback_job(IRIS)
    job.execute_in_process(
        run_config=config, resources={"serving": serving}, tags={"slipway/actor": "bob"}
    )
    last = serving.events("iris", "production")[-1]
    assert (last.action, last.version, last.actor) == ("rollback", 1, Actor("bob").name)
    assert last.evidence["reason"] == "too many complaints"
