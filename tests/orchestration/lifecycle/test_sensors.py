"""The sensors as plain calls: a registry and version folders made by hand, the real Dagster."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import dagster as dg
import pytest

from bentos.model_server.certificate import Certificate
from deploy.challenge import Challenge
from deploy.dagster_names import ACTOR_TAG
from orchestration.defs.lifecycle.decisions import Cursor
from orchestration.defs.lifecycle.jobs import lifecycle_jobs
from orchestration.defs.lifecycle.names import AUTOMATIC_TAG
from orchestration.defs.lifecycle.sensors import _promotion, registry_sensor
from orchestration.resources.registry import FoundVersion, Registry, RegistryError
from orchestration.resources.serving import Serving
from serving_config.load import load
from serving_config.schema import Configuration, Model
from tests.deploy.releases import certificate, contract, http


class Versions(Registry):
    """A registry of which the answers are known; None does not answer."""

    known: ClassVar[dict[str, list[FoundVersion]] | None] = {}

    def names(self) -> list[str]:
        if self.known is None:
            raise RegistryError("MLflow at http://nowhere: refused")
        return sorted(self.known)

    def versions(self, name: str, after: int = 0) -> list[FoundVersion]:
        return [item for item in (self.known or {})[name] if item.version > after]


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    return load(variables={})


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


@pytest.fixture
def tick(configuration: Configuration, instance: dg.DagsterInstance) -> Any:
    jobs = {
        job.name: job
        for m in configuration.models.values()
        for job in lifecycle_jobs(m, configuration)
    }
    sensor = registry_sensor(configuration, jobs)

    def run(cursor: str | None, **known: list[FoundVersion]) -> Any:
        Versions.known = known
        context = dg.build_sensor_context(instance=instance, cursor=cursor)
        return sensor(context, registry=Versions(tracking_uri="http://nowhere"))

    return run


def test_a_new_version_is_one_run_with_a_key_of_its_own(tick: Any) -> None:
    result = tick(None, iris=[FoundVersion(1, True), FoundVersion(2, True)])
    (request,) = result.run_requests
    assert (request.run_key, request.partition_key) == ("iris:2", "2")
    assert request.job_name == "iris_to_staging"
    assert request.tags[AUTOMATIC_TAG] == "true"
    assert request.tags[ACTOR_TAG] == "registry_sensor"
    (partitions,) = result.dynamic_partitions_requests
    assert (partitions.partitions_def_name, partitions.partition_keys) == (
        "iris_versions",
        ["1", "2"],
    )
    assert Cursor.read(result.cursor).seen == {"iris": 2}


def test_nothing_new_is_said_and_asks_for_nothing(tick: Any) -> None:
    cursor = tick(None, iris=[FoundVersion(1, True)]).cursor
    again = tick(cursor, iris=[FoundVersion(1, True)])
    assert isinstance(again, dg.SkipReason)
    assert again.skip_message == "no new version of a configured model"


def test_a_model_that_nobody_configured_is_remembered(tick: Any) -> None:
    result = tick(None, rose=[FoundVersion(1, True)])
    assert result.run_requests == []
    assert Cursor.read(result.cursor).ignored == ["rose"]


def test_a_registry_that_does_not_answer_is_an_error_and_not_an_empty_registry(
    configuration: Configuration, instance: dg.DagsterInstance
) -> None:
    sensor = registry_sensor(
        configuration,
        {
            job.name: job
            for m in configuration.models.values()
            for job in lifecycle_jobs(m, configuration)
        },
    )
    Versions.known = None
    with pytest.raises(RegistryError):
        sensor(
            dg.build_sensor_context(instance=instance),
            registry=Versions(tracking_uri="http://nowhere"),
        )


def by_hand(proof: Certificate) -> Challenge:
    return Challenge(model="iris", version=3, onnx_sha256=proof.onnx_sha256)


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    return Serving(home=str(tmp_path), config_folder=str(tmp_path))


def test_a_proved_version_of_a_model_set_to_auto_is_promoted_once(serving: Serving) -> None:
    proof = certificate(contract(version=3), smoke=http())
    serving.folder("iris", 3).write_certificate(proof)
    serving.folder("iris", 3).write_challenge(by_hand(proof))
    model = Model(name="iris", promotion="auto")
    request = _promotion(model, "3", serving)
    assert isinstance(request, dg.RunRequest)
    assert (request.job_name, request.partition_key) == ("iris_to_production", "3")
    assert request.run_key == f"iris:3:{proof.digest()[:12]}"
    assert request.tags[AUTOMATIC_TAG] == "true"
    assert _promotion(model, "3", serving) == request


def test_a_version_that_waits_for_a_person_says_so(serving: Serving) -> None:
    proof = certificate(contract(version=3), smoke=http())
    serving.folder("iris", 3).write_certificate(proof)
    serving.folder("iris", 3).write_challenge(by_hand(proof))
    reason = _promotion(Model(name="iris", promotion="manual"), "3", serving)
    assert isinstance(reason, dg.SkipReason)
    assert reason.skip_message == (
        "iris version 3 waits for `slipway promote`: promotion is manual, its certificate passed"
    )


def test_a_version_without_a_readable_proof_is_not_promoted_and_says_why(serving: Serving) -> None:
    model = Model(name="iris", promotion="auto")
    missing = _promotion(model, "3", serving)
    assert isinstance(missing, dg.SkipReason)
    assert "certificate.json is missing" in str(missing.skip_message)
    folder = serving.folder("iris", 3)
    proof = certificate(contract(version=3))
    folder.write_certificate(proof)
    uncompared = _promotion(model, "3", serving)
    assert isinstance(uncompared, dg.SkipReason)
    assert "challenger.json is missing" in str(uncompared.skip_message)
    folder.write_challenge(by_hand(proof))
    unsmoked = _promotion(model, "3", serving)
    assert isinstance(unsmoked, dg.SkipReason)
    assert "its certificate did not" in str(unsmoked.skip_message)
    (folder.path / "certificate.json").write_bytes(b"{}")
    broken = _promotion(model, "3", serving)
    assert isinstance(broken, dg.SkipReason)
    assert "is not promoted: certificate.json" in str(broken.skip_message)
