"""Loading, refusing, draining, keys and limits: as a model server's."""

import threading
from pathlib import Path
from typing import Any

import pytest

from bentos.feature_transformer.settings import FeaturesConfig, ViewConfig
from tests.bentos.feature_transformer import definitions
from tests.bentos.feature_transformer.clients import Online, transformer
from tests.bentos.model_server.clients import assert_problem, wait_for_it

TEXT: dict[str, Any] = {"service": "text", "entities": [{}], "request": [{"text": "hello"}]}


@pytest.fixture(scope="module")
def online(tmp_path_factory: pytest.TempPathFactory) -> Online:
    folder: Path = tmp_path_factory.mktemp("features")
    settings = {"type": "sqlite", "path": str(folder / "online.db")}
    return Online(folder, settings, definitions.apply(folder, settings))


def test_a_default_that_is_missing_is_refused_at_the_start_and_said(
    online: Online, caplog: pytest.LogCaptureFixture
) -> None:
    config = FeaturesConfig(views={"profile": ViewConfig(on_unknown="default")})
    with transformer(online, config) as app:
        words = "views.profile.defaults lacks age, income, is_premium, region"
        problem = assert_problem(app.client.get("/ready"), 503, words)
        assert problem["type"] == "urn:slipway:problem:features-refused"
        assert_problem(app.post(TEXT), 503, words)
        assert app.client.get("/health").status_code == 200
    assert words in caplog.text


def test_what_still_comes_while_it_drains_is_answered(online: Online) -> None:
    with transformer(online) as app:
        assert "connection" not in app.post(TEXT).headers
        app.lifecycle.drain()
        assert_problem(app.client.get("/ready"), 503, "shutting down")
        response = app.post(TEXT)
        assert response.status_code == 200
        assert response.headers["connection"] == "close"


def test_a_key_with_the_right_scope_is_asked_for_where_there_are_keys(
    online: Online, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text('{"version": 1, "keys": []}')
    with transformer(online, keys=keys) as app:
        assert_problem(app.post(TEXT), 401, "API key")
        assert app.client.get("/services").status_code == 200


def test_more_requests_than_the_limit_are_shed_at_once(online: Online) -> None:
    with transformer(online, FeaturesConfig(max_concurrency=1)) as app:
        begun, go_on = threading.Event(), threading.Event()
        features = app.lifecycle.features
        assert features is not None
        answer = features.answer

        def slow(*arguments: Any, **options: Any) -> Any:
            begun.set()
            go_on.wait(10)
            return answer(*arguments, **options)

        features.answer = slow  # type: ignore[method-assign]
        first: list[int] = []
        thread = threading.Thread(target=lambda: first.append(app.post(TEXT).status_code))
        thread.start()
        try:
            assert begun.wait(10)
            assert_problem(app.post(TEXT), 503, "1 requests are being worked on")
        finally:
            go_on.set()
            thread.join()
        assert first == [200]
        assert app.metric('slipway_features_shed_total{limit="concurrency"}') == 1


def test_a_request_that_waits_behind_a_slow_one_is_answered_at_its_deadline(
    online: Online,
) -> None:
    with transformer(online, FeaturesConfig(timeout_seconds=0.2)) as app:
        go_on = threading.Event()
        app.lifecycle._thread.submit(go_on.wait, 10)
        try:
            body = {"service": "churn", "entities": [{"customer_id": 1}]}
            assert_problem(app.post(body), 503, "does not answer")
            assert app.post(TEXT).status_code == 200  # needs no store
        finally:
            go_on.set()
        assert app.metric("slipway_features_timeouts_total") == 2
        wait_for_it(lambda: app.post(body).status_code == 422)
