"""The Docker engine, by its own command line."""

import json
import os
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

_ASK_SECONDS = 20
_KEPT_LINES = 5


class EngineError(RuntimeError):
    """There is no engine, it does not answer, or it could not build an image."""


@dataclass(frozen=True)
class Image:
    """One image of the engine's. digest: its id, `sha256:…`."""

    name: str
    digest: str
    size_bytes: int


@dataclass(frozen=True)
class Build:
    """One image to build: `docker build` in a folder that holds all it needs."""

    name: str
    dockerfile: str
    context: Path
    target: str | None = None
    arguments: Mapping[str, str] | None = None

    def options(self) -> list[str]:
        """Those of `docker build`, without the context."""
        options = ["--file", str(self.context / self.dockerfile), "--tag", self.name]
        options += ["--target", self.target] if self.target else []
        for name, value in sorted((self.arguments or {}).items()):
            options += ["--build-arg", f"{name}={value}"]
        return options


class Engine:
    """Raises EngineError where docker is not installed."""

    def __init__(self) -> None:
        command = shutil.which("docker")
        if command is None:
            raise EngineError(
                "docker is not installed here: install Docker Engine "
                "(https://docs.docker.com/engine/install/; Debian: apt-get install docker.io)"
            )
        self._command = command

    def require(self) -> None:
        """Raise EngineError unless the engine answers."""
        asked = self._run("version", "--format", "{{.Server.Version}}")
        if asked.returncode != 0 or not asked.stdout.strip():
            where = os.environ.get("DOCKER_HOST", "its usual socket")
            raise EngineError(
                f"the Docker engine does not answer at {where}: start it, or set DOCKER_HOST "
                f"({_last(asked.stderr)})"
            )

    def build(self, build: Build, say: Callable[[str], None]) -> Image:
        """Build and tag; `say` is told each step. EngineError has the build's last words."""
        command = [self._command, "build", *build.options(), str(build.context)]
        last: deque[str] = deque(maxlen=_KEPT_LINES)
        with subprocess.Popen(  # noqa: S603 - docker, with options of ours
            command,
            # Where BuildKit is: lines, as the classic builder writes them.
            env=os.environ | {"BUILDKIT_PROGRESS": "plain"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            for line in filter(None, map(str.strip, process.stdout or ())):
                last.append(line)
                if line.startswith(("Step ", "#")):
                    say(line[:80])
        if process.returncode != 0:
            raise EngineError(f"{build.name} could not be built: {' | '.join(last)}")
        return self.image(build.name)

    def image(self, name: str) -> Image:
        """What the engine has under that name; EngineError where it has none."""
        asked = self._run("image", "inspect", name)
        if asked.returncode != 0:
            raise EngineError(
                f"there is no image {name}: `make build-images` ({_last(asked.stderr)})"
            )
        (found,) = json.loads(asked.stdout)
        return Image(name, found["Id"], found["Size"])

    def _run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        try:
            return subprocess.run(  # noqa: S603 - docker, with arguments of ours
                [self._command, *arguments],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_ASK_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise EngineError(
                f"docker {arguments[0]} was not done after {_ASK_SECONDS} s"
            ) from error


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no output"
