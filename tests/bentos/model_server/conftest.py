"""Models converted once a session, and the application around them without a network."""

from collections.abc import Iterator

import pytest

from bentos.model_server.bundle import Limits
from tests.bentos.model_server import models
from tests.bentos.model_server.clients import App, serving


@pytest.fixture(scope="session")
def iris() -> models.Parts:
    return models.iris()


@pytest.fixture(scope="session")
def spam() -> models.Parts:
    return models.spam()


@pytest.fixture(scope="module")
def iris_app(iris: models.Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    limits = Limits(max_rows=5, max_body_bytes=4096)
    with serving(iris, tmp_path_factory.mktemp("iris"), limits) as app:
        yield app


@pytest.fixture(scope="module")
def spam_app(spam: models.Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with serving(spam, tmp_path_factory.mktemp("spam")) as app:
        yield app


@pytest.fixture(scope="module")
def petal_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with serving(models.petal_width(), tmp_path_factory.mktemp("petal")) as app:
        yield app
