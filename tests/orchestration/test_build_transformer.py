"""The transformer's Bento: the same inputs give the same, which needs nothing but its extra."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bentos.model_server.bundle import bento_digest
from feature_repo import definitions
from feature_repo.describe import describe
from feature_repo.description import Description
from feature_repo.store import feast_objects
from orchestration.bento_builder import BuildError, BuiltBento, requirements
from orchestration.build_transformer import build_transformer
from serving_config.features import Features, FeatureView

# Run with the Bento's own code, and without every package that its requirements do not bring.
CLOSED = """
import re, sys, tempfile
from importlib import metadata
from pathlib import Path
from packaging.requirements import Requirement

def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()

def closure(lines):
    todo, seen = [Requirement(line) for line in lines], set()
    while todo:
        item = todo.pop()
        key = plain(item.name), tuple(sorted(item.extras))
        if key not in seen:
            seen.add(key)
            for text in metadata.requires(item.name) or []:
                needed = Requirement(text)
                given = [{"extra": extra} for extra in (*item.extras, "")]
                if needed.marker is None or any(map(needed.marker.evaluate, given)):
                    try:
                        metadata.distribution(needed.name)
                        todo.append(needed)
                    except metadata.PackageNotFoundError:
                        pass  # another platform's
    return {name for name, _ in seen}

allowed = closure(Path("requirements.txt").read_text().split())
banned = {
    module
    for module, owners in metadata.packages_distributions().items()
    if not {plain(owner) for owner in owners} & allowed
}
assert {"onnxruntime", "sklearn", "duckdb", "mlflow", "dagster"} <= banned, banned

class Closed:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in banned:
            raise ModuleNotFoundError(f"{name} is not in the extra", name=name)

sys.meta_path.insert(0, Closed())
import bentos.feature_transformer.service
from bentos.feature_transformer.app import application
from bentos.feature_transformer.features import Features
from bentos.feature_transformer.lifecycle import own_store
from bentos.feature_transformer.settings import read_config

with tempfile.TemporaryDirectory() as folder:
    config = read_config(Path("features.json"))
    store, description = own_store(Path(folder), config)
    Features(store, description, config)
    print(*(service.name for service in description.services))
"""


@pytest.fixture(scope="module")
def description() -> Description:
    return describe("slipway", feast_objects(definitions), "0" * 64)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bentoml")


@pytest.fixture(scope="module")
def built(description: Description, home: Path) -> BuiltBento:
    return build_transformer(Features(), description, home)


def test_the_tag_names_the_content_and_the_same_content_is_the_same_tag(
    built: BuiltBento, description: Description, tmp_path: Path
) -> None:
    assert built.tag == f"feature-transformer:{built.digest[:12]}"
    assert bento_digest(built.path) == built.digest
    again = build_transformer(Features(port=8091), description, tmp_path)
    assert again.tag == built.tag  # where it listens is no part of it
    view = {"customer_profile": FeatureView(on_stale="serve")}
    other = build_transformer(Features(views=view), description, tmp_path)
    assert other.tag != built.tag


def test_it_has_the_definitions_and_pinned_packages_and_no_model(built: BuiltBento) -> None:
    source = built.path / "src"
    assert (source / "feature_repo" / "feature_store.yaml").is_file()
    assert sorted(item.name for item in (source / "bentos").iterdir() if item.is_dir()) == [
        "feature_transformer",
        "model_server",
    ]
    assert not (source / "model").exists()
    pins = (source / "requirements.txt").read_text().split()
    assert all("==" in pin for pin in pins)
    assert {"feast", "redis", "bentoml"} <= {pin.partition("==")[0] for pin in pins}
    assert "onnxruntime" not in {pin.partition("==")[0] for pin in pins}


def test_it_loads_with_nothing_installed_but_its_packages(
    built: BuiltBento, tmp_path: Path
) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    child = subprocess.run(
        [sys.executable, "-c", CLOSED],
        cwd=built.path / "src",
        env=environment | {"SLIPWAY_FEATURES_HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    assert child.stdout.split() == ["customer_churn", "spam_detector"]


def test_a_bento_that_was_changed_is_built_again(
    built: BuiltBento, description: Description, home: Path
) -> None:
    views = built.path / "src" / "feature_repo" / "views.py"
    text = views.read_text()
    views.write_text(text + "# tampered with\n")
    assert build_transformer(Features(), description, home) == built
    assert views.read_text() == text


def test_an_extra_that_the_installation_does_not_know_is_an_error_and_not_nothing() -> None:
    with pytest.raises(BuildError, match="without the extra nonsense"):
        requirements("nonsense")
