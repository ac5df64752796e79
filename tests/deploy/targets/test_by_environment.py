"""Environments in several places are one target to a rollout."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.assembly import configured_target
from deploy.home import Home
from deploy.ledger import Ledger
from deploy.rollout import Request, roll_out
from deploy.targets.base import TargetError
from deploy.targets.by_environment import ByEnvironment
from deploy.targets.kserve import KServeTarget
from deploy.targets.kubernetes import KubernetesTarget
from deploy.targets.local import LocalTarget
from serving_config.schema import Configuration, Environment, Model, Platform
from tests.deploy.cluster.kubeconfig import write_kubeconfig
from tests.deploy.releases import release
from tests.deploy.serving_things import name_of, policy
from tests.deploy.targets.memory import MemoryTarget


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    ledger = Ledger("sqlite://")
    yield ledger
    ledger.close()


def out(ledger: Ledger, target: ByEnvironment, version: int, environment: str) -> None:
    roll_out(
        ledger,
        target,
        Request(release(version), environment, "promote", "ann", "run-1", policy=policy()),
    )


def test_each_environment_has_its_own_place(ledger: Ledger) -> None:
    here, there = MemoryTarget(ledger), MemoryTarget(ledger, url="http://there")
    target = ByEnvironment({"staging": here, "eu-staging": there, "production": there})
    out(ledger, target, 1, "staging")
    out(ledger, target, 1, "eu-staging")
    out(ledger, target, 2, "eu-staging")
    one, two = name_of(release(1)), name_of(release(2), "eu-staging")
    assert (set(here.up), set(there.up)) == ({one}, {two})
    assert target.servers().keys() == {one, two}
    assert target.ready(two)
    assert target.endpoint("eu-staging", "iris", None).url == "http://there"
    assert target.in_step()
    target.stop(one)  # it is live
    assert set(here.up) == {one}
    with target.hold(name_of(release(3), "eu-staging")):  # it ends with -staging-…, too
        assert here.held == there.held
    there.counted.clear()
    with pytest.raises(TargetError):
        target.observe(name_of(release(3), "eu-staging"))


def test_a_gateway_that_is_down_does_not_keep_the_other_one_behind(ledger: Ledger) -> None:
    def down(call: str) -> None:
        raise TargetError("down")

    here, there = MemoryTarget(ledger, before=down), MemoryTarget(ledger)
    target = ByEnvironment({"staging": here, "production": there})
    with pytest.raises(TargetError, match="down"):
        target.route()
    assert there.calls == ["route"]


def configuration(**targets: str) -> Configuration:
    return Configuration.model_validate(
        {
            "platform": Platform(),
            "environments": {
                name: Environment.model_validate({"name": name, "target": target})
                for name, target in targets.items()
            },
            "models": {"iris": Model(name="iris")},
        }
    )


def test_the_settings_choose_the_place(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_kubeconfig(tmp_path / "config", "http://127.0.0.1:9")
    monkeypatch.setenv("KUBECONFIG", str(config))

    def target(**targets: str) -> object:
        return configured_target(Home(tmp_path), configuration(**targets), ledger, "/")

    assert isinstance(target(staging="local", production="local"), LocalTarget)
    cluster = target(staging="kubernetes", production="kubernetes")
    assert isinstance(cluster, ByEnvironment)
    assert isinstance(cluster.targets["staging"], KubernetesTarget)
    assert cluster.targets["staging"] is cluster.targets["production"]
    both = target(staging="local", production="kserve")
    assert isinstance(both, ByEnvironment)
    local, kserve = both.targets["staging"], both.targets["production"]
    assert isinstance(local, LocalTarget)
    assert set(local.configuration.environments) == {"staging"}
    assert isinstance(kserve, KServeTarget)
    assert kserve.environments == ("production",)
    config.unlink()
    with pytest.raises(TargetError, match="no cluster to talk to"):
        target(staging="local", production="kubernetes")
