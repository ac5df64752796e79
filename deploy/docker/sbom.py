"""What is in an image, as CycloneDX, by Syft: Debian's packages, Python's and binaries."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

_SECONDS = 600


class SbomError(RuntimeError):
    """The list cannot be made."""


def find_syft() -> str:
    """Beside this Python, or on the PATH; SbomError where it is not installed."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which("syft", path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
    if found is None:
        raise SbomError(
            "syft is not installed here: `make sbom` installs it, as requirements/images.lock"
        )
    return found


def write_sbom(image: str, folder: Path) -> Path:
    """Write `<image>.cdx.json` there, of an image that the local engine has."""
    syft = find_syft()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{re.sub(r'[^A-Za-z0-9._-]', '_', image)}.cdx.json"
    command = [syft, "scan", f"docker:{image}", "--quiet", "--output", f"cyclonedx-json={path}"]
    try:
        done = subprocess.run(  # noqa: S603 - syft, with arguments of ours
            command,
            env=os.environ | {"SYFT_CHECK_FOR_APP_UPDATE": "false"},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SbomError(f"syft was not done with {image} after {_SECONDS} s") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise SbomError(f"syft could not read {image}: {lines[-1]}")
    return path
