"""A version of iris that was trained, exported, verified and built, and homes that share it."""

from pathlib import Path

import pytest

from deploy.events import State
from deploy.home import Home
from deploy.ledger import Ledger
from deploy.versions import BuiltRelease, built_release
from orchestration.build_bento import build_bento
from orchestration.resources.serving import Serving
from serving_config.load import FOLDER
from serving_config.schema import Serving as ServingSettings
from tests.bentos.model_server.models import certify
from tests.deploy.releases import change
from tests.orchestration.monitoring.world import World, make_world


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = make_world(tmp_path_factory.mktemp("built"))
    folder, home = world.folder, world.serving.paths
    rows = world.rows(20).to_dict("records")
    folder.write_certificate(certify(folder.onnx_bytes(), folder.contract(), rows))
    made = build_bento(folder.path, ServingSettings(), home.bentoml)
    folder.write_bento(BuiltRelease(made.tag, made.digest))
    return world


@pytest.fixture
def home(built: World, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Its own, in which version 1 serves in production."""
    made = Home(tmp_path_factory.mktemp("h"))
    shared = built.serving.paths
    made.versions.symlink_to(shared.versions)
    made.bentoml.symlink_to(shared.bentoml)
    with Ledger(made.ledger_url) as ledger:
        live = built_release(made, "iris", 1).live()
        ledger.record(change(State("production", "iris"), live))
    return made


@pytest.fixture
def world(built: World, home: Home) -> World:
    """The registry and the version, with a home of one's own."""
    return World(Serving(home=str(home.root), config_folder=str(FOLDER)), built.registry)


@pytest.fixture
def irises(built: World, tmp_path: Path) -> Path:
    """A folder with 1,000 flowers in 2 files, of which 10 have no petals."""
    folder = tmp_path / "irises"
    folder.mkdir()
    rows = built.rows(1000)
    rows.insert(0, "flower", range(1000))
    rows.loc[::100, "petal_length"] = None
    for number in range(2):
        part = rows.iloc[500 * number : 500 * (number + 1)]
        part.to_parquet(folder / f"{number}.parquet", index=False)
    return folder
