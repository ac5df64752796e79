"""What a Dockerfile promises without being built."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.docker.images import CHECKOUT, ORCHESTRATION, SERVING

DOCKERFILES = [CHECKOUT / SERVING, CHECKOUT / ORCHESTRATION]
# Debian's packages have no version of their own here: none is installed.
_IGNORED = "DL3008"


def stages(path: Path) -> list[list[str]]:
    """The instructions of each stage, a line each."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.M).replace("\\\n", " ")
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    starts = [number for number, line in enumerate(lines) if line.startswith("FROM ")]
    return [lines[a:b] for a, b in zip(starts, [*starts[1:], len(lines)], strict=True)]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_what_runs_is_not_root(path: Path) -> None:
    users = [line for stage in stages(path) for line in stage if line.startswith("USER ")]
    assert users == ["USER 65532:65532"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_nothing_is_fetched_but_by_hash(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"^ADD |curl|wget|apt-get", text, re.M)
    instructions = [line for stage in stages(path) for line in stage]
    installs = [line for line in instructions if re.search(r"\binstall --quiet\b", line)]
    assert installs
    for line in installs:
        for command in re.findall(r"\binstall --quiet.*?(?=&&|$)", line):
            assert "--require-hashes" in command or "--no-index" in command, command


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_what_it_copies_is_there_and_not_ignored(path: Path) -> None:
    ignored = (CHECKOUT / ".dockerignore").read_text().splitlines()
    for stage in stages(path):
        for line in stage:
            if not line.startswith("COPY ") or "--from=" in line:
                continue
            for source in line.split()[1:-1]:
                top = source.rstrip("/").split("/")[0]
                assert f"!{top}" in ignored or any(
                    Path(source).match(entry[1:]) for entry in ignored if entry.startswith("!")
                ), source
                assert source == "bento/" or (CHECKOUT / source).exists(), source


def test_the_extra_authorities_are_in_no_image() -> None:
    for path in DOCKERFILES:
        first, *others = stages(path)
        assert any("requirements/ca/" in line for line in first)
        for stage in others:
            assert not any("ca-certificates" in line or "requirements/ca" in line for line in stage)


def test_the_linter_finds_nothing() -> None:
    beside = Path(sys.executable).parent
    hadolint = shutil.which("hadolint", path=f"{beside}{os.pathsep}{os.environ['PATH']}")
    if hadolint is None:
        missing = "hadolint is not installed (uv pip install -r requirements/images.lock)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    command = [hadolint, "--format", "json", "--ignore", _IGNORED, *map(str, DOCKERFILES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == []
