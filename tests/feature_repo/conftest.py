"""Feature stores in folders of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from feast import FeatureStore

from feature_repo.apply import apply
from feature_repo.home import features_home
from feature_repo.sources import read_below
from feature_repo.store import close_store, open_store


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "features"
    # apply lets the definitions of this process read there
    read_below(features_home())


@pytest.fixture
def store(home: Path) -> Iterator[FeatureStore]:
    """The local profile, with the definitions applied."""
    apply(home)
    opened = open_store(home)
    yield opened
    close_store(opened)
