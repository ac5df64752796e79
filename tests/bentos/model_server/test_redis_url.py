"""SLIPWAY_CACHE_URL: what is refused at start, and that it stays secret."""

import asyncio
import logging
import sys
from pathlib import Path

import pytest

from bentos.model_server.bundle import CacheLimits, Limits
from bentos.model_server.lifecycle import Lifecycle
from bentos.model_server.metrics import Metrics
from bentos.model_server.settings import Settings
from tests.bentos.model_server.clients import GOOD, serving
from tests.bentos.model_server.models import Parts
from tests.bentos.model_server.redis_server import redis_server

LIMITS = Limits(cache=CacheLimits())


def test_a_password_is_never_logged(
    iris: Parts, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with redis_server() as redis:
        url = redis.url.replace("unix://", "unix://:hunter2@")  # of which this Redis knows nothing
        with serving(iris, tmp_path, LIMITS, cache_url=url) as app:
            assert "hunter2" not in repr(app.lifecycle.settings)
            assert app.predict(**GOOD).headers["x-cache"] == "miss"
    assert "fails (AuthenticationError)" in caplog.text
    assert "hunter2" not in caplog.text


def refusal(parts: Parts, folder: Path, url: str) -> str:
    async def load() -> str:
        lifecycle = Lifecycle(Settings(parts.write(folder, LIMITS), cache_url=url), Metrics(None))
        await lifecycle.start()
        await lifecycle.loaded()
        await lifecycle.stop()
        return str(lifecycle.refusal)

    return asyncio.run(load())


@pytest.mark.parametrize("url", ["redis://:hunt/er2@host:1/0", "hunter2", "http://u:hunter2@host"])
def test_a_url_that_is_none_is_refused_without_quoting_it(
    iris: Parts, tmp_path: Path, url: str
) -> None:
    reason = refusal(iris, tmp_path, url)
    assert "SLIPWAY_CACHE_URL is no URL of a Redis; expected redis://" in reason
    assert "hunt" not in reason


def test_a_missing_package_is_refused_with_what_to_install(
    iris: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    assert "pip install 'slipway[redis]'" in refusal(iris, tmp_path, "redis://127.0.0.1")


def test_a_url_for_a_model_without_a_cache_does_nothing(iris: Parts, tmp_path: Path) -> None:
    with serving(iris, tmp_path, Limits(), "hunter2") as app:
        assert "x-cache" not in app.predict(**GOOD).headers
