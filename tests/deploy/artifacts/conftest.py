"""The same tests on a folder and on an object storage."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.artifacts.store import Store
from deploy.home import Home
from tests.deploy.artifacts.s3_server import s3_server


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, s3_server(patch) as url:
        yield url


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "s3":
        request.getfixturevalue("s3")
        return Store(f"s3://slipway/{tmp_path.name}")
    (tmp_path / "shared").mkdir()
    return Store(f"file://{tmp_path}/shared")


@pytest.fixture
def home(tmp_path: Path, store: Store) -> Home:
    return Home(tmp_path / "one", artifacts_url=store.url)


@pytest.fixture
def other(tmp_path: Path, store: Store) -> Home:
    """Another machine."""
    return Home(tmp_path / "other", artifacts_url=store.url)
