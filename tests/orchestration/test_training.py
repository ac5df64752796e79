"""What `slipway train` says when it cannot train, and what it leaves alone."""

import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration import training
from orchestration.training import (
    RegisteredVersion,
    Target,
    TrainingError,
    request_limits,
    resolve,
    train,
)
from serving_config.schema import Model

IRIS = Model(name="iris", training="orchestration.examples.iris:train")
LIMITS = ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES")


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def function_in_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """`training:` of a function that returns nothing, in a module outside the checkout."""
    (tmp_path / "somebodys_models.py").write_text("def train(target):\n    return None\n")
    (tmp_path / "needs_torch.py").write_text("import a_package_that_is_not_installed\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "somebodys_models", raising=False)
    return "somebodys_models:train"


def test_a_model_without_a_training_function_is_told_what_to_do_instead() -> None:
    with pytest.raises(TrainingError) as raised:
        train(Model(name="fraud"), "http://127.0.0.1:1")
    assert str(raised.value) == (
        "models/fraud.yaml has no `training`; register a version with any MLflow client instead"
    )


def test_a_module_that_does_not_exist_is_named_with_the_file() -> None:
    with pytest.raises(TrainingError, match=r"models/iris\.yaml: training: cannot import nowhere"):
        resolve(Model(name="iris", training="nowhere.models:train"))


def test_a_package_that_the_module_needs_and_lacks_is_named(function_in_a_module: str) -> None:
    with pytest.raises(TrainingError, match=r"needs_torch: .*a_package_that_is_not_installed"):
        resolve(Model(name="iris", training="needs_torch:train"))


def test_a_function_that_the_module_lacks_is_named() -> None:
    with pytest.raises(TrainingError, match=r"orchestration\.examples\.iris has no function 'fly'"):
        resolve(Model(name="iris", training="orchestration.examples.iris:fly"))


def test_a_training_function_of_ones_own_is_found(function_in_a_module: str) -> None:
    assert resolve(Model(name="mine", training=function_in_a_module)).__name__ == "train"


def test_a_training_function_has_to_return_the_version_it_registered(
    function_in_a_module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "latest_version", lambda uri, name: None)
    with pytest.raises(TrainingError, match="returned NoneType, not a RegisteredVersion"):
        train(Model(name="mine", training=function_in_a_module), "http://127.0.0.1:1")


def test_a_registry_that_nobody_listens_for_fails_in_seconds_and_is_named(
    closed_port: int,
) -> None:
    address = f"http://127.0.0.1:{closed_port}"
    training.mlflow_client(address)  # the import of MLflow is not what is timed
    started = time.monotonic()
    with pytest.raises(TrainingError, match=f"{address} does not answer"):
        train(IRIS, address)
    assert time.monotonic() - started < 20


def test_a_registry_that_hangs_is_given_up_on(
    silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "PROBE_TIMEOUT_SECONDS", 1)
    with pytest.raises(TrainingError, match=f"{silent_port} does not answer .timed out."):
        train(IRIS, f"http://127.0.0.1:{silent_port}")


def test_a_password_in_the_address_is_not_shown(closed_port: int) -> None:
    with pytest.raises(TrainingError) as raised:
        train(IRIS, f"http://somebody:secret@127.0.0.1:{closed_port}")
    assert f"http://127.0.0.1:{closed_port}" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_an_address_that_is_none_is_named() -> None:
    with pytest.raises(TrainingError, match=r"MLflow at localhost:5000: .*unsupported URI"):
        train(IRIS, "localhost:5000")


def test_a_failed_attempt_leaves_the_environment_as_it_was(closed_port: int) -> None:
    before = dict(os.environ)
    with pytest.raises(TrainingError):
        train(IRIS, f"http://127.0.0.1:{closed_port}")
    assert {name: os.environ.get(name) for name in LIMITS} == {n: before.get(n) for n in LIMITS}


def test_limits_that_the_user_has_set_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "300")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with request_limits(8, 1):
        assert [os.environ[name] for name in LIMITS] == ["300", "1"]
    assert [os.environ.get(name) for name in LIMITS] == ["300", None]


def test_the_next_version_follows_the_latest_or_is_the_first() -> None:
    assert Target(IRIS, "sqlite://", latest_version=None).next_version == 1
    assert Target(IRIS, "sqlite://", latest_version=7).next_version == 8


def test_a_registered_version_is_a_plain_value() -> None:
    assert RegisteredVersion("iris", 1, "run") == RegisteredVersion("iris", 1, "run", {})
