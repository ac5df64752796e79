"""compose.yaml, up and down, and what the tests ask of its containers."""

import json
import re
import secrets
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from deploy.processes import free_ports
from tests.containers.images import ROOT

COMPOSE = ROOT / "deploy" / "compose.yaml"
# Its image is in no package of Debian's.
LEFT_OUT = {"grafana"}
DATABASES = ("slipway", "dagster", "mlflow", "features")
ROW = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
_UP_SECONDS, _SERVES_SECONDS = 900.0, 600.0
_KEY = re.compile(r"slipway_[0-9a-f]+_[0-9a-f]{48}")


class Platform:
    """One project of docker-compose. images: variable → image."""

    def __init__(self, folder: Path, images: dict[str, str]) -> None:
        self.project = f"slipway-test-{secrets.token_hex(3)}"
        self.image = images["SLIPWAY_IMAGE"]
        names = ("GATEWAY_PORT", "DAGSTER_PORT", "MLFLOW_PORT", "GRAFANA_PORT")
        ports = dict(zip(names, map(str, free_ports(len(names))), strict=True))
        passwords = ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "GRAFANA_PASSWORD")
        values = images | ports | {name: secrets.token_hex(16) for name in passwords}
        values |= {"GRAFANA_IMAGE": "none", "SLIPWAY_EXAMPLES": "iris"}
        self._variables = folder / "compose.env"
        self._variables.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
        self.url = f"http://127.0.0.1:{values['GATEWAY_PORT']}"
        self.key = ""

    def compose(self, *arguments: str, seconds: float = 300, stdin: bytes | None = None) -> str:
        """docker-compose; its output."""
        command = ["docker-compose", "--project-name", self.project, "--file", str(COMPOSE)]
        command += ["--env-file", str(self._variables)]
        return _run([*command, *arguments], seconds, stdin)

    def services(self) -> list[str]:
        """All that run for good here."""
        return sorted(set(self.compose("config", "--services").split()) - LEFT_OUT - {"examples"})

    def up(self) -> None:
        """Start it, and make a key."""
        self.start()
        self.key = _KEY.search(self.slipway("keys", "add", "test"))[0]  # type: ignore[index]

    def start(self) -> None:
        """`docker-compose up`."""
        services = [*self.services(), "examples"]
        self.compose("up", "--detach", "--no-build", *services, seconds=_UP_SECONDS)

    def down(self) -> None:
        """Remove containers, network and volumes."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")

    def back_up(self, folder: Path) -> None:
        """As docs/containers.md says: the databases first, so that the home has all they name."""
        postgres = self.container("postgres")
        for name in DATABASES:
            dump = ["docker", "exec", postgres, "pg_dump", "-U", "slipway", "-Fc", name]
            (folder / f"{name}.dump").write_bytes(_bytes(dump, 300))
        tar = ["tar", "-C", "/var/lib/slipway", "--exclude=./logs", "-cz", "."]
        packed = _bytes(["docker", "exec", self.container("control"), *tar], 300)
        (folder / "home.tar.gz").write_bytes(packed)

    def restore(self, folder: Path) -> None:
        """Into new volumes; nothing is up yet."""
        self.compose("up", "--detach", "--no-build", "postgres")
        self.wait_until_healthy("postgres")
        postgres = self.container("postgres")
        for name in DATABASES:
            load = ["docker", "exec", "-i", postgres, "pg_restore", "-U", "slipway", "-d", name]
            _bytes(load, 300, (folder / f"{name}.dump").read_bytes())
        run = ["run", "--rm", "--no-deps", "-T", "--entrypoint", "tar", "control"]
        packed = (folder / "home.tar.gz").read_bytes()
        self.compose(*run, "-C", "/var/lib/slipway", "-xz", stdin=packed)

    def container(self, service: str) -> str:
        """Its id."""
        return self.compose("ps", "--quiet", service).strip()

    def inspect(self, service: str) -> Any:
        """What the engine knows of it."""
        return json.loads(docker("inspect", self.container(service)))[0]

    def slipway(self, *arguments: str) -> str:
        """The command line, inside of the platform."""
        return docker("exec", self.container("control"), "slipway", *arguments, seconds=600)

    def kill(self, service: str) -> None:
        """SIGKILL to its first process, as the kernel does when memory is short. `docker kill`
        would be an operator's wish, after which the engine does not start it again."""
        pid = str(self.inspect(service)["State"]["Pid"])
        helper = ["run", "--rm", "--pid=host", "--user=0", "--entrypoint=sh", self.image]
        docker(*helper, "-c", f"kill -9 {pid}")

    def predict(self, environment: str = "staging") -> httpx.Response:
        """One request through the gateway; httpx.HTTPError where it cannot be reached."""
        headers = {"X-API-Key": self.key, "X-Environment": environment}
        return httpx.post(
            f"{self.url}/models/iris/predict", json={"features": ROW}, headers=headers, timeout=10
        )

    def wait_until_it_serves(self, version: str = "", environment: str = "staging") -> float:
        """Seconds until a prediction comes, of that version if one is given."""

        def served() -> bool:
            with suppress(httpx.HTTPError):
                answer = self.predict(environment)
                return answer.status_code == httpx.codes.OK and (
                    not version or answer.json()["model"]["version"] == version
                )
            return False

        return wait(served, f"no prediction of iris {version} in {environment}", _SERVES_SECONDS)

    def wait_until_healthy(self, service: str, restarts: int = 0) -> float:
        """Seconds until it was restarted so often and its health check passes."""

        def healthy() -> bool:
            found = self.inspect(service)
            health = found["State"].get("Health", {}).get("Status")
            return bool(found["RestartCount"] >= restarts and health == "healthy")

        try:
            return wait(healthy, f"{service} is not healthy", 300)
        except AssertionError as error:
            logs = docker("logs", "--tail", "20", self.container(service))
            raise AssertionError(f"{error}: {logs}") from error


def wait(done: Callable[[], bool], otherwise: str, seconds: float) -> float:
    """How long it took."""
    started = time.monotonic()
    while not done():
        if time.monotonic() - started > seconds:
            raise AssertionError(f"{otherwise} after {seconds:g} s")
        time.sleep(0.2)
    return time.monotonic() - started


def docker(*arguments: str, seconds: float = 120) -> str:
    """Its output, errors too; AssertionError where it fails."""
    return _run(["docker", *arguments], seconds)


def _run(command: list[str], seconds: float, stdin: bytes | None = None) -> str:
    return _bytes(command, seconds, stdin).decode()


def _bytes(command: list[str], seconds: float, stdin: bytes | None = None) -> bytes:
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=seconds, check=False)
    said = done.stderr.decode(errors="replace")
    # 1 of tar: a file that is being written changed meanwhile.
    fine = {0, 1} if "tar" in command else {0}
    assert done.returncode in fine, f"{' '.join(command)}: {done.stdout[-2000:]!r} {said}"
    return done.stdout + (done.stderr if command[1] == "logs" else b"")
