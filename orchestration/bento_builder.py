"""What every Bento is built with: pinned packages, a tag that names its content, a child process.

A Bento's digest is that of its source tree, and known before anything is built: one that is there
already and intact is used as it is.
"""

import fcntl
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import yaml
from packaging.requirements import Requirement

import bentos
from bentos.model_server.bundle import BundleError, bento_digest
from bentos.model_server.certificate import CertificateError
from bentos.model_server.contract import ContractError

TIMEOUT_SECONDS = 120
# BentoML in the child without its command line, whose imports take as long as the build.
CHILD = """\
import sys
from bentoml.bentos import build_bentofile
build_bentofile("bentofile.yaml", build_ctx=".", name=sys.argv[1], version=sys.argv[2])
"""
# What BentoML allows in each half of a tag; it would lower capitals without asking.
TAG_PART = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")


class BuildError(RuntimeError):
    """The Bento cannot be built; one sentence says why."""


@dataclass(frozen=True)
class BuiltBento:
    """digest: of the source tree (`bento_digest`), hex; size_bytes: of the Bento's folder."""

    tag: str
    path: Path
    digest: str
    size_bytes: int


@dataclass(frozen=True)
class Recipe:
    """service: `module:attribute`; include: what of the build's folder goes into the Bento."""

    service: str
    description: str
    include: tuple[str, ...]


def requirements(extra: str, distribution: str = "slipway") -> list[str]:
    """The packages of an extra, pinned to what is installed here, sorted.

    What is served was verified with these very versions.
    """
    try:
        stated = importlib.metadata.metadata(distribution)
        if extra not in (stated.get_all("Provides-Extra") or []):
            raise BuildError(
                f"{distribution} is installed here without the extra {extra}: install it again"
            )
        wanted = [Requirement(line) for line in stated.get_all("Requires-Dist") or []]
        names = [r.name for r in wanted if r.marker and r.marker.evaluate({"extra": extra})]
        return sorted(f"{name}=={importlib.metadata.version(name)}" for name in names)
    except importlib.metadata.PackageNotFoundError as error:
        raise BuildError(f"{error.name} is not installed here, so it cannot be pinned") from error


def redis_requirements() -> list[str]:
    """The client of Redis, where the platform has the extra `redis`.

    A Bento does not know where it will run: without that extra nothing here can name a Redis.
    """
    found = []
    for name in ("hiredis", "redis"):
        with suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name}=={importlib.metadata.version(name)}")
    return found


def copy_packages(context: Path, root: Path, files: Iterable[Path]) -> None:
    """Files below root to the same places below the build's folder."""
    for source in files:
        target = context / source.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def sources(*names: str) -> list[Path]:
    """The Python files of packages in `bentos`."""
    package = Path(bentos.__file__).parent
    found = (path for name in names for path in sorted((package / name).rglob("*.py")))
    return [package / "__init__.py", *found]


def write_requirements(context: Path, pins: Iterable[str]) -> None:
    """`requirements.txt`, sorted."""
    (context / "requirements.txt").write_text("\n".join(sorted(pins)) + "\n")


def checked_tag(name: str, version: str) -> tuple[str, str]:
    """The two halves of a tag; BuildError where BentoML does not permit one."""
    for part in (name, version):
        if not TAG_PART.fullmatch(part):
            raise BuildError(
                f"{part!r} cannot be in a Bento's tag: at most 63 lower-case letters, digits, "
                "dots, dashes and underscores, beginning and ending with a letter or a digit"
            )
    return name, version


@contextmanager
def _locked(bento_home: Path) -> Iterator[None]:
    # Two builds of one tag would write the same folder.
    bento_home.mkdir(parents=True, exist_ok=True)
    with (bento_home / ".slipway-build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sweep(bento_home: Path, name: str) -> None:
    # A build that failed leaves its folder; on a full disk each attempt would make it fuller.
    for folder in (bento_home / "tmp").glob(f"bentoml_bento_{name}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _run_child(context: Path, bento_home: Path, name: str, version: str) -> None:
    own = ("BENTOML_", "PYTHONPATH")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(own)} | {
        "BENTOML_HOME": str(bento_home),
        "BENTOML_DO_NOT_TRACK": "True",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    try:
        child = subprocess.run(  # noqa: S603 - our own interpreter, and a checked tag
            [sys.executable, "-c", CHILD, name, version],
            cwd=context,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        _sweep(bento_home, name)
        raise BuildError(
            f"bentoml build of {name}:{version} was not done after {TIMEOUT_SECONDS} s"
        ) from error
    if child.returncode != 0:
        _sweep(bento_home, name)
        lines = [line.strip() for line in child.stdout.splitlines() if line.strip()]
        reason = lines[-1] if lines else f"exit code {child.returncode} and no output"
        raise BuildError(f"bentoml build of {name}:{version} failed: {reason}")


def _write_bentofile(context: Path, recipe: Recipe) -> None:
    options = {
        "service": recipe.service,
        "description": recipe.description,
        "include": [*recipe.include, "requirements.txt"],
        # Locking would ask a package index; the versions are pinned already.
        "python": {"requirements_txt": "requirements.txt", "lock_packages": False},
    }
    (context / "bentofile.yaml").write_text(yaml.safe_dump(options))


def _load_back(path: Path, digest: str, verify: Callable[[Path], None]) -> None:
    """Raise BundleError, or what `verify` raises, unless it is the whole Bento of that digest."""
    if (found := bento_digest(path)) != digest:
        raise BundleError(f"{path} has digest {found}, expected {digest}")
    verify(path)
    try:
        manifest = yaml.safe_load((path / "bento.yaml").read_text(encoding="utf-8"))
        whole = (manifest["name"], manifest["version"]) == (path.parent.name, path.name)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise BundleError(f"{path}/bento.yaml cannot be read: {error}") from error
    if not whole:
        raise BundleError(f"{path}/bento.yaml is of another Bento")


def intact(path: Path, digest: str, verify: Callable[[Path], None] = lambda _: None) -> bool:
    """Whether the Bento in this folder is whole, and the one of that digest."""
    try:
        _load_back(path, digest, verify)
    except (BundleError, ContractError, CertificateError):
        return False
    return True


def ensure(
    context: Path,
    bento_home: Path,
    tag: tuple[str, str],
    digest: str,
    recipe: Recipe,
    verify: Callable[[Path], None] = lambda _: None,
) -> BuiltBento:
    """Build what lies in `context`, or find it intact.

    digest: `tree_digest(context)`, of which the tag has a part; verify: raises BundleError,
    ContractError or CertificateError for a Bento that is not what was asked for.
    """
    name, version = tag
    path = bento_home / "bentos" / name / version
    with _locked(bento_home):
        if not (path.exists() and intact(path, digest, verify)):
            # Half-written or tampered with: its tag promises a content that it does not have.
            shutil.rmtree(path, ignore_errors=True)
            _write_bentofile(context, recipe)
            _run_child(context, bento_home, name, version)
            _load_back(path, digest, verify)
    files = (file for file in path.rglob("*") if file.is_file())
    return BuiltBento(
        tag=f"{name}:{version}",
        path=path,
        digest=digest,
        size_bytes=sum(file.stat().st_size for file in files),
    )
