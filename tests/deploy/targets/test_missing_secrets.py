"""A release whose pods miss a Secret says which, where, and the command that helps."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.ledger import Ledger
from deploy.manifests.identity import KEYS
from deploy.targets.base import TargetError
from deploy.targets.kserve import KServeTarget
from deploy.targets.kubernetes import KubernetesTarget
from tests.deploy.cluster.controllers import waits
from tests.deploy.cluster.places import SPACE, place, settings
from tests.deploy.releases import release
from tests.deploy.serving_things import promote

WHY = "CreateContainerConfigError"
# As the kubelet writes them (pkg/kubelet/kubelet_pods.go).
NO_KEY = f"couldn't find key SLIPWAY_CACHE_URL in Secret {SPACE}/{KEYS}"
NO_SECRET = f'secret "{KEYS}" not found'


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    ledger = Ledger("sqlite://")
    yield ledger
    ledger.close()


def told(folder: Path, ledger: Ledger, said: str, target: str = "kubernetes") -> str:
    of = KServeTarget if target == "kserve" else KubernetesTarget
    cached = settings(target=target, cache_url="rediss://:word@cache.example/0")
    with place(folder, ledger, cached, of) as here:
        here.controllers.troubles["iris"] = waits(WHY, said)
        with pytest.raises(TargetError) as error:
            promote(here.target, release(1))
        assert here.target.servers() == {}
    assert "word" not in str(error.value)
    return str(error.value)


def command(sentence: str) -> list[str]:
    """That it offers, as a shell reads it."""
    return shlex.split(sentence.split("`")[1])


@pytest.mark.parametrize("target", ["kubernetes", "kserve"])
def test_a_key_that_is_missing(tmp_path: Path, ledger: Ledger, target: str) -> None:
    sentence = told(tmp_path, ledger, NO_KEY, target)
    assert f"Secret {KEYS} in namespace {SPACE} has no key SLIPWAY_CACHE_URL" in sentence
    given = ["patch", "secret", KEYS, "--patch", '{"stringData": {"SLIPWAY_CACHE_URL": "…"}}']
    assert command(sentence) == ["kubectl", "-n", SPACE, *given]


def test_a_secret_that_is_missing_altogether(tmp_path: Path, ledger: Ledger) -> None:
    sentence = told(tmp_path, ledger, NO_SECRET)
    assert f"there is no Secret {KEYS} in namespace {SPACE}" in sentence
    given = ["create", "secret", "generic", KEYS, "--from-literal=SLIPWAY_CACHE_URL=…"]
    assert command(sentence) == ["kubectl", "-n", SPACE, *given]


def test_other_words_are_told_as_they_are(tmp_path: Path, ledger: Ledger) -> None:
    assert 'configmap "x" not found' in told(tmp_path, ledger, 'configmap "x" not found')
