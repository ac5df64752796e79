"""The control API in this process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.control.controls import Running, running


@pytest.fixture
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    # Short: a home's path has to leave room for the names of its sockets.
    folder: Path = tmp_path_factory.mktemp("h")
    with running(folder) as made:
        yield made
