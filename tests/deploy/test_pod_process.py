"""The platform's keys in a pod, whose home is empty."""

import sys
from pathlib import Path

import pytest

from bentos.model_server.keys import PLATFORM, Keys
from deploy import pod_process
from deploy.home import Home
from deploy.keys import KeyStore, KeyStoreError, platform_headers, take_mounted
from deploy.parts import close_to_strangers
from tests.deploy.test_parts import ANYWHERE, platform


@pytest.fixture
def made(tmp_path: Path) -> Home:
    """Where docs/kubernetes.md has the keys made."""
    home = Home(tmp_path / "made").create()
    KeyStore(home).add("me", ["predict"])
    return home


@pytest.fixture
def mounted(made: Home, tmp_path: Path) -> Path:
    """As the Secret has them: flat, and readable for its group."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    for path in (made.keys, made.pii_key, made.platform_key):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture
def pod(tmp_path: Path) -> Home:
    return Home(tmp_path / "pod").create()


def test_a_pod_asks_with_the_key_that_the_model_servers_know(
    made: Home, mounted: Path, pod: Home
) -> None:
    take_mounted(pod, mounted)
    assert platform_headers(pod) == platform_headers(made)
    key = platform_headers(pod)["X-API-Key"].encode()
    of_a_server = Keys(mounted / "keys.json", required=True)
    assert of_a_server.require({b"x-api-key": key}, "10.1.0.7", "predict") == PLATFORM
    # Another one would make another hash of the same value.
    assert pod.pii_key.read_bytes() == made.pii_key.read_bytes()
    for path in (pod.keys, pod.pii_key, pod.platform_key):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_part_that_others_reach_makes_no_keys_of_its_own_then(mounted: Path, pod: Home) -> None:
    take_mounted(pod, mounted)
    given = pod.keys.read_bytes()
    assert close_to_strangers(platform(pod, SLIPWAY_HOST=ANYWHERE)) is None
    assert pod.keys.read_bytes() == given


def test_a_changed_secret_is_taken_at_the_next_start(made: Home, mounted: Path, pod: Home) -> None:
    take_mounted(pod, mounted)
    KeyStore(made).add("you", ["predict"])
    (mounted / "keys.json").write_bytes(made.keys.read_bytes())
    take_mounted(pod, mounted)
    assert [entry.name for entry in KeyStore(pod).entries()] == ["me", "you"]


def test_a_pod_without_keys_gets_none(tmp_path: Path, pod: Home) -> None:
    take_mounted(pod, tmp_path / "nothing")
    assert platform_headers(pod) == {}


def test_a_secret_that_lacks_one_is_told(mounted: Path, pod: Home) -> None:
    (mounted / "platform.key").unlink()
    with pytest.raises(KeyStoreError, match=r"platform\.key.*Secret slipway-keys needs keys\.json"):
        take_mounted(pod, mounted)


def test_the_process_of_a_run_begins_with_them(
    made: Home, mounted: Path, pod: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_HOME", str(pod.root))
    monkeypatch.setattr(pod_process, "take_mounted", lambda home: take_mounted(home, mounted))
    became: list[list[str]] = []
    monkeypatch.setattr("os.execvpe", lambda _, command, variables: became.append(command))
    pod_process.main([sys.executable, "-V"])
    assert became == [[sys.executable, "-V"]]
    assert platform_headers(pod) == platform_headers(made)
    (mounted / "pii.key").unlink()
    with pytest.raises(SystemExit, match=r"slipway: .*pii\.key"):
        pod_process.main([sys.executable, "-V"])
