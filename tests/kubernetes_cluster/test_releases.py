"""`make test-kubernetes`: releases on a real cluster, with our images."""

from dataclasses import replace

import httpx
import pytest

from deploy.cluster.rights import RIGHTS
from deploy.live import live_clusters
from deploy.manifests.names import namespace
from deploy.release import Release
from deploy.rollout import Request, roll_out
from deploy.targets.base import TargetError
from deploy.traffic import Actor, Traffic
from serving_config.release import ReleasePolicy
from tests.kubernetes_cluster.conftest import Lane
from tests.kubernetes_cluster.load import under_load

DIRECT = ReleasePolicy(policy="direct", bake_seconds=0)


def deploy(lane: Lane, release: Release) -> None:
    request = Request(release, "staging", "promote", "test", None, policy=DIRECT)
    roll_out(lane.ledger, lane.target, request)


def is_settled(lane: Lane) -> None:
    assert set(lane.target.servers()) == live_clusters(lane.ledger)
    assert lane.target.in_step()


def test_these_credentials_may_do_what_the_platform_does(lane: Lane) -> None:
    where = namespace(lane.target.configuration.environments["staging"])
    missing = [
        f"kubectl auth can-i {verb} {kind.full_name}{'/' + part if part else ''} -n {where}"
        for verb, kind, part in RIGHTS
        if not lane.target.cluster.may(verb, kind, where, part)
    ]
    assert missing == []


def test_a_deployed_version_answers_through_the_gateway(lane: Lane) -> None:
    release = lane.releases[0]
    deploy(lane, release)
    is_settled(lane)
    endpoint = lane.target.endpoint("staging", release.model, release.live())
    row = release.bundle.contract.example
    answer = httpx.post(
        f"{endpoint.url}/predict", json={"features": row}, headers=dict(endpoint.headers)
    )
    assert answer.status_code == 200, answer.text
    (name,) = lane.target.servers()
    assert lane.target.observe(name).requests >= 1
    assert lane.target.logs(name, 5)


def test_a_failed_deployment_leaves_the_version_before(lane: Lane) -> None:
    first, second = lane.releases
    deploy(lane, first)
    configuration = lane.target.configuration
    settings = configuration.platform.kubernetes.model_copy(
        update={"image": "registry.invalid/no/such:image"}
    )
    platform = configuration.platform.model_copy(update={"kubernetes": settings})
    broken = configuration.model_copy(update={"platform": platform})
    with pytest.raises(TargetError, match="cannot be pulled"):
        deploy(replace(lane, target=replace(lane.target, configuration=broken)), second)
    is_settled(lane)
    assert live_clusters(lane.ledger) == set(lane.target.servers())


def test_no_request_fails_while_a_version_replaces_another_and_while_it_goes_back(
    lane: Lane,
) -> None:
    first, second = lane.releases
    deploy(lane, first)
    endpoint = lane.target.endpoint("staging", first.model, None)
    stored = {release.live().bento: release for release in lane.releases}
    traffic = Traffic(lane.ledger, lane.target, lambda live: stored[live.bento])
    with under_load(endpoint, first.bundle.contract.example) as seen:
        deploy(lane, second)
        traffic.rollback("staging", first.model, Actor("test"), "the test says so")
        traffic.tidy("staging", first.model)
    assert set(seen) == {"200"}, seen
    assert seen["200"] > 100
    is_settled(lane)
