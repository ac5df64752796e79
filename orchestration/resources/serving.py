"""The serving platform, as the lifecycle uses it: home, ledger and target."""

import os
from contextlib import closing
from pathlib import Path

import dagster as dg

from deploy.home import Home
from deploy.ledger import open_ledger
from deploy.release import Release
from deploy.rollout import Outcome, Request, roll_out
from deploy.targets.local import LocalTarget
from deploy.versions import VersionFolder, built_release
from serving_config.load import FOLDER, load


class Serving(dg.ConfigurableResource):  # type: ignore[type-arg]
    """home: SLIPWAY_HOME; config_folder: the settings' folder."""

    home: str
    config_folder: str

    @classmethod
    def from_environment(cls) -> "Serving":
        """As the platform sets it, or the defaults of the checkout."""
        folder = Path(os.environ.get("SLIPWAY_CONFIG") or FOLDER)
        home = os.environ.get("SLIPWAY_HOME") or str(folder.parent / ".slipway")
        return cls(home=home, config_folder=str(folder))

    @property
    def paths(self) -> Home:
        """The home's layout."""
        return Home(Path(self.home))

    @property
    def gateway_url(self) -> str:
        """Where clients talk to the gateway."""
        port = load(Path(self.config_folder)).platform.gateway.port
        return f"http://127.0.0.1:{port}"

    @property
    def default_environment(self) -> str:
        """The environment of a request without `X-Environment`."""
        return load(Path(self.config_folder)).platform.default_environment

    @property
    def dagster_url(self) -> str:
        """Dagster's UI."""
        port = load(Path(self.config_folder)).platform.dagster.port
        return f"http://127.0.0.1:{port}"

    def folder(self, model: str, version: int | str) -> VersionFolder:
        """The files of one version."""
        return VersionFolder.of(self.paths.versions, model, version)

    def release(self, model: str, version: int | str) -> Release:
        """The Bento that was built of the version, with the version's latest certificate."""
        return built_release(self.paths, model, version)

    def live_labels(self, environment: str, model: str) -> list[str]:
        """The versions that the ledger says are live."""
        with closing(open_ledger(self.paths, load(Path(self.config_folder)))) as ledger:
            return [live.label for live in ledger.state(environment, model).live]

    def roll_out(self, request: Request) -> Outcome:
        """Give the release its model's traffic in an environment."""
        folder = Path(self.config_folder)
        configuration = load(folder)
        with closing(open_ledger(self.paths, configuration)) as ledger:
            target = LocalTarget(self.paths, configuration, ledger, str(folder.parent))
            return roll_out(ledger, target, request)
