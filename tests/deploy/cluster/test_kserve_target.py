"""The KServe target on a stand-in: one InferenceService, a candidate and what served before."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.ledger import Ledger
from deploy.live import live_clusters
from deploy.targets.base import TargetError
from deploy.targets.inference_waiting import judge_service
from deploy.targets.kserve import KServeTarget
from tests.deploy.cluster.controllers import waits
from tests.deploy.cluster.places import SPACE, Place, place, settings
from tests.deploy.releases import live, release
from tests.deploy.serving_things import ANN, PLACE, name_of, policy, promote, traffic_of

OLD, NEW, THIRD = release(1), release(2), release(3)
CANARY = policy("canary", steps=[10, 50], bake_seconds=60)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    ledger = Ledger("sqlite://")
    with place(tmp_path, ledger, settings(target="kserve"), KServeTarget) as here:
        yield here
    ledger.close()


def service(here: Place) -> Any:
    return here.api.objects["inferenceservices.serving.kserve.io", SPACE, "iris"]


def describes(here: Place) -> tuple[str, int | None]:
    predictor = service(here)["spec"]["predictor"]
    return predictor["labels"]["slipway.dev/version"], predictor.get("canaryTrafficPercent")


def test_a_release_a_canary_of_the_next_and_back(here: Place) -> None:
    promote(here.target, OLD)
    assert describes(here) == ("1", None)
    assert here.target.servers().keys() == {name_of(OLD)}
    assert promote(here.target, NEW, CANARY).status == "started"
    assert describes(here) == ("2", 10)
    assert here.target.servers().keys() == live_clusters(here.ledger)
    assert here.target.in_step()
    traffic = traffic_of(here.target)
    traffic.rollback(*PLACE, ANN, "slow")
    assert describes(here) == ("2", 0), "it would have all traffic until the old one is up again"
    traffic.tidy(*PLACE)
    assert describes(here) == ("1", None)
    assert here.target.servers().keys() == {name_of(OLD)}
    assert here.target.in_step()


def test_a_candidate_that_gets_everything(here: Place) -> None:
    promote(here.target, OLD)
    promote(here.target, NEW)
    assert describes(here) == ("2", None)
    assert here.target.servers().keys() == {name_of(NEW)}
    assert promote(here.target, NEW).status == "unchanged"


def test_a_candidate_that_fails_has_no_traffic_and_leaves(here: Place) -> None:
    promote(here.target, OLD)
    here.controllers.troubles["'slipway.dev/version': '2'"] = waits("ImagePullBackOff", "denied")
    with pytest.raises(TargetError, match=r"cannot be pulled \(ImagePullBackOff: denied\)"):
        promote(here.target, NEW, CANARY)
    assert describes(here) == ("1", None)
    assert here.target.servers().keys() == {name_of(OLD)}


def test_where_clients_ask(here: Place) -> None:
    promote(here.target, OLD)
    endpoint = here.target.endpoint("staging", "iris", live(1))
    assert (
        endpoint.url == here.target.endpoint("staging", "iris", None).url == "http://iris.example"
    )
    promote(here.target, NEW, CANARY)
    assert here.target.endpoint("staging", "iris", live(1)).url == "http://prev-iris.example"
    assert here.target.endpoint("staging", "iris", live(2)).url == "http://latest-iris.example"
    with pytest.raises(TargetError, match="is not running"):
        here.target.endpoint("staging", "iris", live(3))


def test_what_kserve_cannot_do_is_refused_in_one_sentence(here: Place) -> None:
    promote(here.target, OLD)
    promote(here.target, NEW, CANARY)
    with pytest.raises(TargetError, match="KServe serves two at most"):
        traffic_of(here.target).load(THIRD, "staging", ANN)
    assert here.target.servers().keys() == {name_of(OLD), name_of(NEW)}


def test_what_kserve_can_never_do_is_refused_before_the_ledger_has_it(here: Place) -> None:
    promote(here.target, OLD)
    before = here.ledger.events("iris", "staging")
    shadowed = policy("canary", shadow={})
    with pytest.raises(TargetError, match="copied requests in staging, which KServe cannot send"):
        promote(here.target, NEW, shadowed)
    assert here.ledger.events("iris", "staging") == before
    assert here.target.servers().keys() == {name_of(OLD)}


def test_missing_definitions(here: Place) -> None:
    here.api.groups.remove("serving.kserve.io")
    with pytest.raises(TargetError, match=r"serving\.kserve\.io.*kserve-crd"):
        promote(here.target, OLD)


def test_ready_by_the_revision_before_is_not_ready() -> None:
    ready = [{"type": kind, "status": "True"} for kind in ("PredictorReady", "Ready")]
    told = {"latestCreatedRevision": "b", "latestReadyRevision": "a"}
    item = {
        "metadata": {"generation": 2},
        "status": {
            "observedGeneration": 2,
            "conditions": ready,
            "components": {"predictor": told},
        },
    }
    assert judge_service(item, []).reason == "revision b is not ready yet"
    told["latestReadyRevision"] = "b"
    assert judge_service(item, []).state == "ready"
    item["metadata"]["generation"] = 3
    assert judge_service(item, []).state == "waiting"
