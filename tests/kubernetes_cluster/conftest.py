"""A real cluster: whichever KUBECONFIG names. Without one everything here is skipped, by name.

What a run needs is in docs/kubernetes.md: the images, pushed to where the cluster pulls them from,
and three variables beside KUBECONFIG.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.assembly import cluster_targets
from deploy.home import Home
from deploy.ledger import Ledger
from deploy.release import Release
from deploy.targets.kubernetes import KubernetesTarget
from deploy.versions import built_release
from serving_config.load import load
from serving_config.schema import Configuration

_NEEDED = {
    "KUBECONFIG": "the cluster",
    "SLIPWAY_TEST_HOME": "a home with two built and proved versions of SLIPWAY_TEST_MODEL",
    "SLIPWAY_TEST_CONFIG": "the folder of settings that name its images and its gateway",
}


@dataclass(frozen=True)
class Lane:
    """What the tests have to work with: two releases of one model, in staging."""

    target: KubernetesTarget
    ledger: Ledger
    releases: tuple[Release, Release]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [name for name in _NEEDED if not os.environ.get(name)]
    if not missing:
        return
    wanted = "; ".join(f"{name}: {_NEEDED[name]}" for name in missing)
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=f"no cluster to test on ({wanted})"))


@pytest.fixture(scope="session")
def configuration() -> Configuration:
    return load(Path(os.environ["SLIPWAY_TEST_CONFIG"]))


@pytest.fixture
def lane(configuration: Configuration) -> Iterator[Lane]:
    """Nothing of the model is on the cluster before and after."""
    model = os.environ.get("SLIPWAY_TEST_MODEL", "iris-classifier")
    home = Home(Path(os.environ["SLIPWAY_TEST_HOME"]))
    ledger = Ledger("sqlite://")
    target = cluster_targets(home, configuration, ledger)["staging"]
    assert isinstance(target, KubernetesTarget)
    first, second = (built_release(home, model, version) for version in (1, 2))
    _clear(target)
    try:
        yield Lane(target, ledger, (first, second))
    finally:
        ledger.close()
        empty = Ledger("sqlite://")
        _clear(cluster_targets(home, configuration, empty)["staging"])
        empty.close()


def _clear(target: object) -> None:
    assert isinstance(target, KubernetesTarget)
    for name in target.servers():
        target.stop(name)
    target.route()
