"""The images of the lane: Slipway's by its own command, the databases' from Debian's packages."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.docker.engine import Build, Engine

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "substitutes"
SUBSTITUTES = ("postgres", "redis", "prometheus")
OWN_BASE = "slipway-test-base:bookworm"
_PACKAGES = "python3,python3-venv,ca-certificates"


def build_images(engine: Engine, folder: Path) -> dict[str, str]:
    """All of them; variable of compose.yaml → image. BASE_IMAGE and EXTRA_CA as for
    `make build-images`; without BASE_IMAGE one is made by debootstrap."""
    base = os.environ.get("BASE_IMAGE") or _made_by_debootstrap(folder)
    slipway = Path(sys.executable).parent / "slipway"
    command = [str(slipway), "build-images", "--tag", "test", "--base-image", base]
    subprocess.run(command, cwd=ROOT, check=True, timeout=3600)
    found = {"SLIPWAY_IMAGE": "slipway/orchestration:test", "BASE_IMAGE": base}
    for name in SUBSTITUTES:
        image = f"slipway-test-{name}"
        build = Build(image, f"{name}.Dockerfile", FOLDER, None, {"BASE_IMAGE": base})
        engine.build(build, lambda line: None)
        found[f"{name.upper()}_IMAGE"] = image
    return found


def _made_by_debootstrap(folder: Path) -> str:
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        pytest.skip("no BASE_IMAGE is given, and debootstrap, which would make one, needs root")
    root = folder / "base"
    command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm"]
    subprocess.run([*command, str(root)], check=True, timeout=1800)
    packed = f"tar -C {root} -c . | docker import - {OWN_BASE}"
    subprocess.run(["/bin/sh", "-c", packed], check=True, timeout=600)
    shutil.rmtree(root)
    return OWN_BASE
