"""Every step of the lifecycle with an empty home, as in a pod of its own: what they share is the
registry, the ledger and a store of artifacts."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import msgspec
import pytest

from bentos.model_server.certificate import CertificateError
from deploy.home import Home
from deploy.release import Release, ReleaseError
from deploy.targets.base import Endpoint
from deploy.versions import MissingFileError
from orchestration.defs.lifecycle.assets import lifecycle_assets
from orchestration.defs.lifecycle.checks import lifecycle_checks
from orchestration.defs.lifecycle.names import Names
from orchestration.examples.registration import log_and_register
from orchestration.resources.registry import Registry
from orchestration.resources.serving import Serving
from orchestration.smoke import smoke_test
from orchestration.steps.base import InProcess
from orchestration.training import Target
from serving_config.load import FOLDER
from serving_config.schema import Model
from tests.bentos.model_server.clients import bentoml_serve, wait_for
from tests.deploy.artifacts.s3_server import s3_server
from tests.orchestration.lifecycle.test_variants import network

pytestmark = pytest.mark.filterwarnings("ignore:Specifying a partitions_def on an AssetCheckSpec")
MODEL = Model(name="tumour")
NAMES = Names("tumour")


@pytest.fixture(params=["file", "s3"])
def _artifacts(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)  # MLflow's artifacts go below it
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    monkeypatch.delenv("SLIPWAY_LEDGER_URL", raising=False)
    if request.param == "file":
        (tmp_path / "shared").mkdir()
        monkeypatch.setenv("SLIPWAY_ARTIFACTS_URL", f"file://{tmp_path}/shared")
        yield
        return
    monkeypatch.setenv("SLIPWAY_ARTIFACTS_URL", f"s3://slipway/{tmp_path.name}")
    with s3_server(monkeypatch):
        yield


class PodPerStep(Serving):
    """Every step, the check too, has a home of its own."""

    @property
    def paths(self) -> Home:
        step = dg.OpExecutionContext.get().op.name
        return Home(Path(self.home) / step).sharing(self.configuration.platform)


class Pods:
    """Each has a home of its own."""

    def __init__(self, folder: Path) -> None:
        uri = f"sqlite:///{folder}/mlflow.db"
        self._homes = (folder / f"pod-{number}" for number in itertools.count())
        self.registry = Registry(tracking_uri=uri)
        log_and_register(Target(MODEL, uri, None), network(2))

    def new(self) -> Serving:
        return Serving(home=str(next(self._homes)), config_folder=str(FOLDER))

    def run(self, *steps: str) -> bool:
        """Whether they and their checks succeeded."""
        serving = PodPerStep(home=self.new().home, config_folder=str(FOLDER))
        definitions = dg.Definitions(
            assets=lifecycle_assets(MODEL)[:3],
            asset_checks=lifecycle_checks(MODEL)[:1],
            jobs=[dg.define_asset_job("steps", selection=[NAMES.asset(step) for step in steps])],
            resources={"serving": serving, "registry": self.registry, "steps": InProcess()},
        )
        with dg.instance_for_test() as instance:
            instance.add_dynamic_partitions("tumour_versions", ["1"])
            job = definitions.resolve_job_def("steps")
            done = job.execute_in_process(
                instance=instance, partition_key="1", raise_on_error=False
            )
        return done.success


@pytest.mark.usefixtures("_artifacts")
def test_a_version_becomes_a_verified_release_though_no_step_shares_a_disk(tmp_path: Path) -> None:
    pods = Pods(tmp_path)
    with pytest.raises(MissingFileError, match="not built here"):
        pods.new().release("tumour", 1)
    assert not pods.run("bento")  # nothing is proved yet
    assert pods.run("onnx_model")
    assert pods.run("bento")
    assert {path.name for path in tmp_path.glob("pod-*/*")} == {
        "tumour__onnx_model",
        "tumour__onnx_model_conversion_parity",
        "tumour__bento",
    }

    release = pods.new().release("tumour", 1)
    release.require_certificate("staging")
    with pytest.raises(CertificateError):
        release.require_certificate("production")
    prove(pods, release)

    proved = pods.new().release("tumour", 1)
    proved.require_certificate("production")
    assert proved.live().bento_digest == release.live().bento_digest
    with pytest.raises(ReleaseError):  # a home that does not know of the store has nothing
        Release.load(proved.tag, tmp_path / "elsewhere")


def prove(pods: Pods, release: Release) -> None:
    """Serve the Bento in a pod that has to fetch it, ask it, and write what came of it in another
    one."""
    server = pods.new()
    server.release("tumour", 1)
    with bentoml_serve(release.tag, server.paths.bentoml) as serving:
        wait_for(serving, "/ready", 200)
        endpoint = Endpoint(str(serving.client.base_url).rstrip("/"), {})
        http = smoke_test(
            endpoint, release.bundle.contract, release.certificate, release.bundle.digest
        )
    certificate = msgspec.structs.replace(release.certificate, http=http)
    pods.new().folder("tumour", 1).write_certificate(certificate)
