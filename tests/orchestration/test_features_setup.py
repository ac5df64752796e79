"""Applying the definitions and building the transformer: once, and again when they change."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bentos.feature_transformer.settings import FeaturesError
from deploy.features import read_record
from deploy.home import Home
from deploy.platform import LocalPlatform
from orchestration import features_setup
from orchestration.features_setup import ApplyError, ensure_features
from serving_config.features import Features, FeatureView
from serving_config.load import FOLDER
from tests.deploy.test_features import configured


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> LocalPlatform:
    home = Home(tmp_path_factory.mktemp("h")).create()
    return LocalPlatform(home, configured(), FOLDER)


@pytest.fixture(scope="module", autouse=True)
def applied(platform: LocalPlatform) -> Iterator[None]:
    ensure_features(platform)
    yield
    shutil.rmtree(platform.home.root)


@pytest.fixture
def no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "run", refuse)


@pytest.mark.usefixtures("no_child")
def test_nothing_that_did_not_change_is_done_again(platform: LocalPlatform) -> None:
    before = read_record(platform.home)
    started = time.perf_counter()
    assert ensure_features(platform) == before
    assert time.perf_counter() - started < 1  # 0.07 s where nothing else runs


def test_looking_takes_no_feast() -> None:
    code = "import sys, orchestration.features_setup, orchestration.build_transformer\n"
    code += "print([name for name in ('feast', 'pandas', 'bentoml') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.usefixtures("no_child")
def test_without_a_feature_service_nothing_is_applied(tmp_path: Path) -> None:
    platform = LocalPlatform(Home(tmp_path), configured(None), FOLDER)
    assert ensure_features(platform) is None
    assert not any(tmp_path.iterdir())


def test_changed_settings_are_another_bento_of_the_same_definitions(
    platform: LocalPlatform,
) -> None:
    before = read_record(platform.home)
    features = Features(views={"customer_profile": FeatureView(on_stale="serve")})
    changed = platform.configuration.model_copy(update={"features": features})
    other = ensure_features(LocalPlatform(platform.home, changed, FOLDER))
    assert other is not None
    assert other != before
    assert read_record(platform.home) == other
    assert ensure_features(platform) == before


def test_a_default_that_is_missing_is_refused_before_anything_is_built(
    platform: LocalPlatform,
) -> None:
    features = Features(views={"sender_activity": FeatureView(on_unknown="default")})
    changed = platform.configuration.model_copy(update={"features": features})
    before = read_record(platform.home)
    with pytest.raises(FeaturesError, match=r"views\.sender_activity\.defaults lacks"):
        ensure_features(LocalPlatform(platform.home, changed, FOLDER))
    assert read_record(platform.home) == before


def test_what_cannot_be_applied_is_one_line(
    platform: LocalPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features_setup, "_applied", lambda _: None)
    features = Features(store="nothing.yaml")
    changed = platform.configuration.model_copy(update={"features": features})
    with pytest.raises(ApplyError) as raised:
        ensure_features(LocalPlatform(platform.home, changed, FOLDER))
    message = str(raised.value)
    assert message.startswith("the feature definitions cannot be applied: nothing.yaml is not in")
    assert "\n" not in message
