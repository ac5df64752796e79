"""The sensors as plain calls: a registry and version folders made by hand, the real Dagster."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import dagster as dg
import pytest
from msgspec.structs import replace

from bentos.model_server.certificate import Certificate
from deploy.challenge import Challenge
from deploy.dagster_names import ACTOR_TAG
from orchestration.defs.lifecycle.decisions import Cursor
from orchestration.defs.lifecycle.jobs import lifecycle_jobs
from orchestration.defs.lifecycle.names import AUTOMATIC_TAG
from orchestration.defs.lifecycle.sensors import _promotion, _variants, registry_sensor
from orchestration.resources.registry import FoundVersion, Registry, RegistryError
from orchestration.resources.serving import Serving
from serving_config.load import FOLDER, load
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
    return Serving(home=str(tmp_path), config_folder=str(FOLDER))


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


def test_a_variant_is_never_promoted_by_itself(serving: Serving) -> None:
    proof = certificate(contract(version=3, variant="int8"), smoke=http())
    serving.folder("iris", "3-int8").write_certificate(proof)
    serving.folder("iris", "3-int8").write_challenge(by_hand(proof))
    model = Model(name="iris", promotion="auto", variants=("fp32", "int8"))
    reason = _promotion(model, "3-int8", serving)
    assert isinstance(reason, dg.SkipReason)
    assert reason.skip_message == "iris version 3-int8 is a variant: promote it by hand"


def test_the_variants_of_a_proved_version_are_built_once_and_again_when_it_is_rebuilt(
    serving: Serving,
) -> None:
    model = Model(name="iris", variants=("fp32", "int8"))
    serving.folder("iris", 3).write_certificate(certificate(contract(version=3), smoke=http()))
    result = _variants(model, "3", serving)
    assert isinstance(result, dg.SensorResult)
    (request,) = result.run_requests or []
    assert request.partition_key == "3-int8"
    assert request.job_name == "iris_to_staging"
    assert (request.tags[AUTOMATIC_TAG], request.tags[ACTOR_TAG]) == ("true", "variant_sensor")
    (partitions,) = result.dynamic_partitions_requests or []
    assert (partitions.partitions_def_name, partitions.partition_keys) == (
        "iris_versions",
        ["3-int8"],
    )

    def run_key() -> str | None:
        found = _variants(model, "3", serving)
        assert isinstance(found, dg.SensorResult)
        return (found.run_requests or [])[0].run_key

    assert run_key() == request.run_key
    narrower = replace(contract(version=3).inputs[0], maximum=5.0)
    changed = replace(contract(version=3), inputs=(narrower, *contract(version=3).inputs[1:]))
    proof = certificate(changed, smoke=http())
    serving.folder("iris", 3).write_certificate(proof)
    assert run_key() != request.run_key, "the version was rebuilt, the variant is not"


def test_no_variant_is_built_of_what_is_not_proved_or_is_one_or_is_to_have_none(
    serving: Serving,
) -> None:
    model = Model(name="iris", variants=("fp32", "int8"))
    assert isinstance(_variants(model, "3", serving), dg.SkipReason)
    folder = serving.folder("iris", 3)
    folder.write_certificate(certificate(contract(version=3)))
    assert isinstance(_variants(model, "3", serving), dg.SkipReason)
    folder.write_certificate(certificate(contract(version=3), smoke=http()))
    assert isinstance(_variants(Model(name="iris"), "3", serving), dg.SkipReason)
    variant = certificate(contract(version=3, variant="int8"), smoke=http())
    serving.folder("iris", "3-int8").write_certificate(variant)
    assert isinstance(_variants(model, "3-int8", serving), dg.SkipReason)
