"""Checkouts with a home and ports of their own, for tests that start the real platform."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from deploy.dagster_client import DagsterClient
from deploy.home import Home
from deploy.processes import belonging_to, end_all, free_ports
from serving_config.load import FOLDER

SLIPWAY = Path(sys.executable).parent / "slipway"
SETOSA = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
# Seconds between the requests of one connection: a load without a pause takes the cores from the
# platform that is tested, and shows nothing more.
PACE = 0.02
PARTS = ("GATEWAY", "DAGSTER", "MLFLOW", "FEATURES")


@dataclass(frozen=True)
class Checkout:
    """A folder with settings of its own, a home and ports of its own."""

    folder: Path
    variables: dict[str, str]

    @classmethod
    def make(cls, **variables: str) -> "Checkout":
        # Short: UNIX sockets live below the home.
        folder = Path(tempfile.mkdtemp(prefix="slipway-"))
        shutil.copytree(FOLDER, folder / "serving_config")
        iris = folder / "serving_config" / "models" / "iris.yaml"
        shipped = iris.read_text()
        iris.write_text(shipped.replace("bake_seconds: 60", "bake_seconds: 5"))
        assert iris.read_text() != shipped
        ports = zip(PARTS, free_ports(len(PARTS)), strict=True)
        return cls(folder, {f"SLIPWAY_{part}_PORT": str(port) for part, port in ports} | variables)

    @property
    def home(self) -> Home:
        return Home(self.folder / ".slipway")

    def url(self, part: str) -> str:
        return f"http://127.0.0.1:{self.variables[f'SLIPWAY_{part.upper()}_PORT']}"

    @property
    def dagster(self) -> DagsterClient:
        return DagsterClient(self.url("dagster"))

    def slipway(self, *arguments: str, timeout: float = 580) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SLIPWAY_")}
        return subprocess.run(
            [str(SLIPWAY), *arguments],
            cwd=self.folder,
            env=environment | self.variables,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def must(self, *arguments: str) -> str:
        """Run the command and return what it printed; fail with all of it otherwise."""
        done = self.slipway(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}\n{self.logs()}"
        return done.stdout

    def logs(self) -> str:
        """The ends of all logs, for a failed test's message."""
        tails = []
        for path in sorted(self.home.logs.glob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-12:]
            tails.append(f"--- {path.name}\n" + "\n".join(lines))
        return "\n".join(tails)

    def predict(self, model: str, features: dict[str, Any], **headers: str) -> httpx.Response:
        return self.ask(model, {"features": features}, **headers)

    def ask(self, model: str, body: dict[str, Any], **headers: str) -> httpx.Response:
        return httpx.post(
            f"{self.url('gateway')}/models/{model}/predict",
            json=body,
            headers={"X-Environment": "production"} | headers,
            timeout=10,
        )

    def close(self) -> None:
        end_all(self.home.root)
        assert belonging_to(self.home.root) == []
        shutil.rmtree(self.folder)


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 180) -> Any:
    """Poll until the condition is true; its value. The time-out is for a hung test, not a speed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {seconds} s")


def in_production(platform: Checkout, model: str, features: dict[str, Any], version: int) -> bool:
    """Whether that version answers there."""
    answer = platform.predict(model, features)
    return answer.headers.get("X-Model-Version") == str(version)


def configure(platform: Checkout, name: str, text: str) -> None:
    """The walk-through's two steps: a YAML, and `slipway up` reads it."""
    (platform.folder / "serving_config" / "models" / f"{name}.yaml").write_text(text)
    platform.must("up", "--detach")
