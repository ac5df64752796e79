"""The serving platform, as the lifecycle uses it: home, ledger and target."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from bentos.model_server.contract import Contract
from deploy.assembly import configured_traffic
from deploy.challenge import Champion
from deploy.control.progress import Progress, read_progress
from deploy.events import Event
from deploy.home import Home
from deploy.ledger import Ledger, open_ledger
from deploy.live import most_traffic
from deploy.predictions.requests import recent_rows
from deploy.release import Release
from deploy.replay import replay_gate
from deploy.rollout import Outcome, Request, roll_out
from deploy.traffic import Traffic
from deploy.versions import VersionFolder, built_release
from serving_config.load import FOLDER, load
from serving_config.schema import Configuration


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
        return Home(Path(self.home)).sharing(self.configuration.platform)

    @property
    def configuration(self) -> Configuration:
        """The settings, as they are now."""
        return load(Path(self.config_folder))

    @property
    def gateway_url(self) -> str:
        """Where clients talk to the gateway."""
        return self.configuration.platform.gateway.url

    @property
    def default_environment(self) -> str:
        """The environment of a request without `X-Environment`."""
        return self.configuration.platform.default_environment

    @property
    def dagster_url(self) -> str:
        """Dagster's UI."""
        return self.configuration.platform.dagster.url

    def folder(self, model: str, version: int | str) -> VersionFolder:
        """The files of one version."""
        return VersionFolder.of(self.paths, model, version)

    def release(self, model: str, version: int | str) -> Release:
        """The Bento that was built of the version, with the version's latest certificate."""
        return built_release(self.paths, model, version)

    def open_ledger(self) -> Ledger:
        """The platform's ledger, to be closed by the caller."""
        return open_ledger(self.paths, self.configuration)

    def champion(self, model: str) -> Champion | None:
        """The version that has the most traffic in production, None where there is none."""
        with self.open_ledger() as ledger:
            live = most_traffic(ledger.state("production", model).live)
        return Champion(live.version, live.onnx_sha256, live.variant) if live else None

    @contextmanager
    def traffic(self) -> Iterator[Traffic]:
        """Changes of what serves."""
        folder = Path(self.config_folder).parent
        with self.open_ledger() as ledger:
            yield configured_traffic(self.paths, self.configuration, ledger, str(folder))

    def roll_out(self, request: Request) -> Outcome:
        """Give the release its model's traffic in an environment, as its policy says."""
        with self.traffic() as traffic:
            gate = replay_gate(traffic.target, traffic.releases, self._logged)
            return roll_out(traffic.ledger, traffic.target, request, gate)

    def _logged(
        self, environment: str, model: str, contract: Contract, count: int
    ) -> Sequence[dict[str, Any]]:
        """The last rows that clients sent."""
        return recent_rows(self.paths, self.configuration, model, environment, contract, count)

    def events(self, model: str, environment: str) -> list[Event]:
        """What happened to the model in the environment, in order."""
        with self.open_ledger() as ledger:
            return ledger.events(model, environment)

    def progress(self, environment: str, model: str) -> Progress | None:
        """How far a release in progress is, as the controller last saw it."""
        return read_progress(self.paths, environment, model)
