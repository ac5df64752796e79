"""A home in a folder with a short path: UNIX sockets live in it."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.home import Home
from tests.deploy.postgres_server import PostgresServer, postgres_server


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    folder = tempfile.mkdtemp(prefix="slipway-")
    yield Home(Path(folder)).create()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server
