"""Training on labelled answers, and the gate its version passes: a real registry, real models."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest
from msgspec.structs import replace

from deploy.challenge import ChallengeError, Champion
from deploy.dagster_names import ACTOR_TAG, FINDING_TAG, REASON_TAG
from deploy.events import Change, Live
from deploy.home import Home
from deploy.predictions.labels import Label, append_labels
from deploy.rollout import Request
from orchestration.defs.lifecycle.deployments import _held_against_production
from orchestration.defs.lifecycle.names import Names
from orchestration.defs.lifecycle.sensors import _promotion
from orchestration.defs.retraining.gate import better_than_production, challenged
from orchestration.defs.retraining.training import training_assets, training_jobs
from orchestration.monitoring.fresh import fresh_count, fresh_rows
from orchestration.resources.registry import Registry
from orchestration.resources.serving import Serving
from orchestration.training import ACTOR, REASON, TrainingRequest, train
from serving_config.predictions import LoggedColumns
from serving_config.schema import Configuration
from tests.bentos.model_server.models import Parts, iris
from tests.deploy.releases import certificate, http, release
from tests.orchestration.retraining.conftest import HOUR, answered, labelled

pytestmark = pytest.mark.filterwarnings("ignore:Specifying a partitions_def on an AssetCheckSpec")
DRIFT = "drift failed 2 times in a row in production"


@pytest.fixture
def model(configuration: Configuration) -> Any:
    return configuration.models["iris"]


def test_a_training_run_learns_from_the_labels_that_came_since_and_says_who_asked(
    configuration: Configuration,
    registry: Registry,
    serving: Serving,
    home: Home,
    instance: dg.DagsterInstance,
    model: Any,
) -> None:
    train(model, registry.tracking_uri)
    now = datetime.now(UTC)
    # The answer may be older than the last version: its label is not.
    labelled(home, answered(home, now - HOUR, 50), now + HOUR)
    labelled(home, answered(home, now - HOUR, 30, name="old"), now - HOUR)
    job = dg.Definitions(
        training_assets(configuration),
        jobs=list(training_jobs(configuration).values()),
        resources={"registry": registry, "serving": serving},
    ).resolve_job_def("iris_training")
    tags = {REASON_TAG: DRIFT, ACTOR_TAG: "retraining_sensor", FINDING_TAG: "drift production 1"}
    result = job.execute_in_process(instance=instance, tags=tags)
    (event,) = result.asset_materializations_for_node("iris__training")
    shown = {name: value.value for name, value in event.metadata.items()}
    assert (shown["version"], shown["fresh_rows"]) == (2, 50)
    version = registry.get("iris", 2)
    expected = {REASON: DRIFT, ACTOR: "retraining_sensor", "slipway.finding": "drift production 1"}
    for tagged in (version.tags, registry.run(version.run_id).data.tags):
        assert expected.items() <= dict(tagged).items()
        assert tagged["slipway.training_run"].endswith(f"/runs/{result.run_id}")


def test_a_label_of_no_class_is_nothing_to_learn_from(
    configuration: Configuration, home: Home, model: Any
) -> None:
    now = datetime.now(UTC)
    ids = answered(home, now - HOUR, 30)
    labelled(home, ids, now - HOUR / 2)
    wrong = Label(ids[0], "sestosa")
    append_labels(home, "iris", "production", [wrong], "ann", now - HOUR / 4)
    found = fresh_rows(home, configuration, model, None, now)
    assert found is not None
    assert set(found["label"]) == {"setosa", "versicolor", "virginica"}
    assert len(found) == fresh_count(home, configuration, model, None, now) == 29


def test_a_hash_is_no_input_to_learn_from(
    configuration: Configuration, home: Home, model: Any
) -> None:
    now = datetime.now(UTC)
    labelled(home, answered(home, now - HOUR, 30), now - HOUR / 2)
    masked = model.model_copy(update={"prediction_log": LoggedColumns(hashed=("sepal_width",))})
    found = fresh_rows(home, configuration, masked, None, now)
    assert found is not None
    assert "sepal_width" not in found
    assert "sepal_length" in found


@pytest.fixture(scope="module")
def good() -> Parts:
    return iris(version=1)


@pytest.fixture(scope="module")
def bad() -> Parts:
    return iris(version=2, turned=True)


def serves(serving: Serving, parts: Parts, version: int) -> Champion:
    serving.folder("iris", version).write_export(parts.onnx, parts.contract)
    sha256 = parts.contract.onnx_sha256
    live = Live(version, "fp32", sha256, f"iris:{version}", "d" * 64, "e" * 64, 100)
    with serving.open_ledger() as ledger:
        ledger.record(
            Change(
                base=ledger.state("production", "iris"),
                action="promote",
                subject=live,
                live=(live,),
                actor="ann",
                dagster_run=None,
                evidence={},
            )
        )
    return Champion(version, sha256)


def gate(registry: Registry, serving: Serving, model: Any, version: int | str) -> Any:
    """The check's step, on a staging deployment that does nothing."""
    names = Names("iris")

    @dg.asset(key=names.asset("staging_deployment"), partitions_def=names.partitions)
    def staging() -> None: ...

    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions("iris_versions", [str(version)])
        result = dg.materialize(
            [staging, better_than_production(model)],
            partition_key=str(version),
            instance=instance,
            resources={"registry": registry, "serving": serving},
            raise_on_error=False,
        )
        (evaluation,) = result.get_asset_check_evaluations()
    assert result.success == evaluation.passed  # it blocks
    return evaluation


def promoted(serving: Serving, model: Any, parts: Parts, version: int) -> str:
    folder = serving.folder("iris", version)
    folder.write_certificate(certificate(parts.contract, smoke=http()))
    result = _promotion(model, str(version), serving)
    return "" if isinstance(result, dg.RunRequest) else str(result.skip_message)


def retrained(registry: Registry, model: Any, reason: str = DRIFT) -> int:
    return train(model, registry.tracking_uri, TrainingRequest(reason, "retraining_sensor")).version


def test_a_retrained_version_takes_over_only_if_it_is_better(
    registry: Registry, serving: Serving, model: Any, good: Parts, bad: Parts
) -> None:
    version = retrained(registry, model)
    serving.folder("iris", version).write_export(good.onnx, good.contract)
    champion = serves(serving, bad, 7)
    passed = gate(registry, serving, model, version)
    assert passed.passed
    assert passed.metadata["production"].value < 0.1 < passed.metadata["candidate"].value
    assert registry.get("iris", version).tags["slipway.better_than_production"] == "passed"
    assert serving.folder("iris", version).challenge().champion == champion
    assert promoted(serving, model, good, version) == ""


def last_look(registry: Registry, serving: Serving, model: Any, version: int, **more: Any) -> Any:
    """The request of a promotion that nobody asked for, once nothing is in its way."""
    request = Request(
        release=release(version),
        environment="production",
        action="promote",
        actor="promotion_sensor",
        **more,
    )
    context = dg.build_asset_context(partition_key=str(version))
    return _held_against_production(context, registry, serving, model, request)


def test_what_took_over_meanwhile_is_compared_before_the_promotion(
    registry: Registry, serving: Serving, model: Any, good: Parts, bad: Parts
) -> None:
    version = retrained(registry, model)
    serving.folder("iris", version).write_export(good.onnx, good.contract)
    serves(serving, bad, 7)
    assert gate(registry, serving, model, version).passed
    assert promoted(serving, model, good, version) == ""
    other = serves(serving, bad, 8)
    freed = last_look(registry, serving, model, version)
    assert freed.policy.replay.max_disagreement == 1.0
    assert serving.folder("iris", version).challenge().champion == other


def test_what_took_over_meanwhile_and_is_as_good_is_not_replaced_by_itself(
    registry: Registry, serving: Serving, model: Any, good: Parts, bad: Parts
) -> None:
    version = retrained(registry, model)
    serving.folder("iris", version).write_export(bad.onnx, bad.contract)
    serves(serving, good, 7)
    challenge = challenged(registry, serving, model, version)
    # It was better than what served then.
    won = replace(challenge.comparison, candidate=1.0, production=0.5)
    old = replace(challenge, champion=Champion(6, "0" * 64), comparison=won)
    serving.folder("iris", version).write_challenge(old)
    with pytest.raises(ChallengeError, match="not better"):
        last_look(registry, serving, model, version)
    by_a_person = last_look(registry, serving, model, version, older_allowed=True)
    assert by_a_person.policy.replay.max_disagreement < 1.0


def test_a_retrained_version_that_is_worse_stays_in_staging(
    registry: Registry, serving: Serving, model: Any, good: Parts, bad: Parts
) -> None:
    version = retrained(registry, model)
    serving.folder("iris", version).write_export(bad.onnx, bad.contract)
    serves(serving, good, 7)
    refused = gate(registry, serving, model, version)
    assert not refused.passed
    assert str(refused.metadata["verdict"].value).startswith("not better")
    assert "did not pass better_than_production" in promoted(serving, model, bad, version)


def test_a_version_trained_by_hand_is_not_compared(
    registry: Registry, serving: Serving, model: Any, good: Parts, bad: Parts
) -> None:
    version = train(model, registry.tracking_uri).version
    serving.folder("iris", version).write_export(bad.onnx, bad.contract)
    serves(serving, good, 7)
    assert gate(registry, serving, model, version).passed
    assert promoted(serving, model, bad, version) == ""


def test_with_nothing_in_production_there_is_nothing_to_beat(
    registry: Registry, serving: Serving, model: Any, good: Parts
) -> None:
    version = retrained(registry, model)
    serving.folder("iris", version).write_export(good.onnx, good.contract)
    found = challenged(registry, serving, model, version)
    assert found.passed
    assert "serves no version" in found.verdict


def test_without_a_hold_out_or_with_an_exchanged_model_it_does_not_pass(
    registry: Registry,
    serving: Serving,
    model: Any,
    good: Parts,
    bad: Parts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    version = retrained(registry, model)
    serving.folder("iris", version).write_export(good.onnx, good.contract)
    serves(serving, bad, 7)
    serving.folder("iris", 7).write_export(good.onnx, good.contract)
    exchanged = challenged(registry, serving, model, version)
    assert not exchanged.passed
    assert "is not the one that serves" in exchanged.verdict
    monkeypatch.setattr(Registry, "download_run_artifact", lambda *_: None)
    missing = challenged(registry, serving, model, version)
    assert not missing.passed
    assert "left no holdout/holdout.parquet" in missing.verdict


def test_a_variant_has_no_rival_and_is_one_for_the_next_version(
    registry: Registry, serving: Serving, model: Any, good: Parts
) -> None:
    check = gate(registry, serving, model, "1-int8")
    assert check.passed
    assert "variant of version 1" in str(check.metadata["verdict"].value)
    sha256 = good.contract.onnx_sha256
    live = Live(1, "int8", sha256, "iris:1", "d" * 64, "e" * 64, 100)
    with serving.open_ledger() as ledger:
        base = ledger.state("production", "iris")
        ledger.record(Change(base=base, action="promote", subject=live, live=(live,), actor="ann"))
    champion = serving.champion("iris")
    assert champion == Champion(1, sha256, "int8")
    assert champion.label == "1-int8"
