"""A home in a folder with a short path: UNIX sockets live in it."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.home import Home


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    folder = tempfile.mkdtemp(prefix="slipway-")
    yield Home(Path(folder)).create()
    shutil.rmtree(folder)
