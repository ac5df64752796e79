"""The platform in containers, for real: `make test-containers`. Plain pytest leaves it out."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.docker.engine import Engine, EngineError
from tests.containers.images import build_images
from tests.containers.platform import Platform

ASKED = "SLIPWAY_TEST_CONTAINERS"
if not os.environ.get(ASKED):
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def engine() -> Engine:
    """Skips all of it where no Docker engine answers."""
    if shutil.which("docker-compose") is None:
        pytest.skip("docker-compose is not installed (Debian: apt-get install docker-compose)")
    try:
        found = Engine()
        found.require()
    except EngineError as error:
        pytest.skip(str(error))
    return found


@pytest.fixture(scope="session")
def platform(engine: Engine) -> Iterator[Platform]:
    """Up, with a key and a first version that answers; all of it is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="slipway-containers-") as folder:
        made = Platform(Path(folder), build_images(engine, Path(folder)))
        try:
            made.up()
            yield made
        finally:
            made.down()
