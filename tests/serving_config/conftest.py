"""A folder with settings that load, to be made wrong one file at a time."""

from collections.abc import Callable
from pathlib import Path

import pytest

GOOD = {
    "platform.yaml": "default_model: iris\n",
    "environments/staging.yaml": "workers: 1\n",
    "environments/production.yaml": "workers: 2\n",
    "models/iris.yaml": "promotion: auto\n",
    "models/spam-detector.yaml": "registered_model: Spam Detector\n",
}
Write = Callable[[str, str], Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two models in two environments."""
    for name, text in GOOD.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.fixture
def write(folder: Path) -> Write:
    """Replaces one file of the folder."""

    def replace(name: str, text: str) -> Path:
        (folder / name).write_text(text)
        return folder

    return replace
