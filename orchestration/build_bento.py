"""A verified model becomes a Bento: the same inputs give the same tag and the same digest.

The Bento's tag is `<model>:<version>-<variant>-<digest>`, the digest being that of its source
tree: the model server's code, the model's folder and the pinned packages. It is known before
anything is built, so a Bento that is there already and intact is used as it is.
"""

import fcntl
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import yaml
from packaging.requirements import Requirement

import bentos
from bentos.model_server.bundle import (
    Bundle,
    BundleError,
    Limits,
    read_bundle,
    read_model_folder,
    require_unity,
    sha256_of,
    tree_digest,
)
from bentos.model_server.certificate import Certificate, CertificateError
from bentos.model_server.codec import Codec
from bentos.model_server.contract import Contract, ContractError
from serving_config.predictions import LoggedColumns
from serving_config.schema import Serving

SERVICE = "bentos.model_server.service:service"
TIMEOUT_SECONDS = 120
# BentoML in the child without its command line, whose imports take as long as the build.
CHILD = """\
import sys
from bentoml.bentos import build_bentofile
build_bentofile("bentofile.yaml", build_ctx=".", name=sys.argv[1], version=sys.argv[2])
"""
_ALL_LOGGED = LoggedColumns()
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


def serving_requirements(distribution: str = "slipway") -> list[str]:
    """The packages of the extra `serving`, pinned to what is installed here, sorted.

    The graph was verified with these very versions.
    """
    try:
        stated = importlib.metadata.requires(distribution) or []
        wanted = [Requirement(line) for line in stated]
        names = [r.name for r in wanted if r.marker and r.marker.evaluate({"extra": "serving"})]
        return sorted(f"{name}=={importlib.metadata.version(name)}" for name in names)
    except importlib.metadata.PackageNotFoundError as error:
        raise BuildError(f"{error.name} is not installed here, so it cannot be pinned") from error


def cache_requirements(limits: Limits) -> list[str]:
    """The client of Redis, where the model has a cache and the platform has the extra `redis`.

    A Bento does not know where it will run: without that extra no environment can name a Redis.
    """
    if limits.cache is None:
        return []
    try:
        return [f"redis=={importlib.metadata.version('redis')}"]
    except importlib.metadata.PackageNotFoundError:
        return []


def _check(model_dir: Path, limits: Limits) -> tuple[Contract, Certificate]:
    # Nothing is built for a model that a deployment or a server would refuse anyway.
    folder = read_model_folder(model_dir, limits)
    onnx_sha256 = sha256_of(folder.onnx)
    folder.certificate.require_parity(folder.contract, onnx_sha256)
    require_unity(folder.contract, folder.certificate, onnx_sha256)
    limits.prediction_log.require_known(folder.contract)
    Codec(folder.contract, limits.max_rows)
    # What the smoke test of an earlier build found is no part of this one: the same graph and
    # contract give the same Bento, before and after it.
    return folder.contract, msgspec.structs.replace(folder.certificate, http=None)


def _assemble(context: Path, model_dir: Path, limits: Limits, certificate: Certificate) -> None:
    package = Path(bentos.__file__).parent
    parts = [package / "model_server", package / "prediction_log"]
    sources = [package / "__init__.py", *(s for part in parts for s in sorted(part.rglob("*.py")))]
    for source in sources:
        target = context / "bentos" / source.relative_to(package)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    (context / "model").mkdir()
    for name in ("model.onnx", "contract.json"):
        shutil.copyfile(model_dir / name, context / "model" / name)
    (context / "model" / "certificate.json").write_bytes(certificate.encode())
    (context / "model" / "serving.json").write_bytes(msgspec.json.encode(limits) + b"\n")
    pins = sorted([*serving_requirements(), *cache_requirements(limits)])
    (context / "requirements.txt").write_text("\n".join(pins) + "\n")


def _write_bentofile(context: Path, contract: Contract) -> None:
    options = {
        "service": SERVICE,
        "description": f"{contract.model} version {contract.version}, {contract.variant}",
        "include": ["bentos/", "model/", "requirements.txt"],
        # Locking would ask a package index; the versions are pinned already.
        "python": {"requirements_txt": "requirements.txt", "lock_packages": False},
    }
    (context / "bentofile.yaml").write_text(yaml.safe_dump(options))


def bento_tag(contract: Contract, digest: str) -> tuple[str, str]:
    """The two halves of the tag; BuildError where BentoML does not permit one."""
    name, version = contract.model, f"{contract.version}-{contract.variant}-{digest[:12]}"
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


def _load_back(path: Path, contract: Contract, certificate: Certificate, digest: str) -> Bundle:
    bundle = read_bundle(path)
    if bundle.digest != digest:
        raise BundleError(f"{path} has digest {bundle.digest}, expected {digest}")
    if bundle.contract != contract or bundle.certificate != certificate:
        raise BundleError(f"{path} holds another contract or certificate than was asked for")
    try:
        manifest = yaml.safe_load((path / "bento.yaml").read_text(encoding="utf-8"))
        whole = (manifest["name"], manifest["version"]) == (path.parent.name, path.name)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise BundleError(f"{path}/bento.yaml cannot be read: {error}") from error
    if not whole:
        raise BundleError(f"{path}/bento.yaml is of another Bento")
    return bundle


def _intact(path: Path, contract: Contract, certificate: Certificate, digest: str) -> bool:
    try:
        _load_back(path, contract, certificate, digest)
    except (BundleError, ContractError, CertificateError):
        return False
    return True


def _ensure(context: Path, bento_home: Path, contract: Contract, certificate: Certificate) -> Path:
    digest = tree_digest(context)
    name, version = bento_tag(contract, digest)
    path = bento_home / "bentos" / name / version
    with _locked(bento_home):
        if path.exists() and _intact(path, contract, certificate, digest):
            return path
        # Half-written or tampered with: its tag promises a content that it does not have.
        shutil.rmtree(path, ignore_errors=True)
        _write_bentofile(context, contract)
        _run_child(context, bento_home, name, version)
        _load_back(path, contract, certificate, digest)
    return path


def build_bento(
    model_dir: Path, serving: Serving, bento_home: Path, logged: LoggedColumns = _ALL_LOGGED
) -> BuiltBento:
    """Build, or find intact, the Bento of a verified model.

    model_dir holds `model.onnx`, `contract.json` and `certificate.json`; bento_home is the
    BENTOML_HOME to build into; logged: what of the model's inputs may be kept. Raises
    CertificateError, ContractError or BundleError where the model must not be built, BuildError
    where it cannot be.
    """
    bento_home = bento_home.resolve()
    settings = serving.model_dump() | {"prediction_log": logged.model_dump()}
    limits = msgspec.convert(settings, Limits)
    contract, certificate = _check(model_dir, limits)
    try:
        with tempfile.TemporaryDirectory(prefix="slipway-build-") as folder:
            context = Path(folder).resolve()
            _assemble(context, model_dir, limits, certificate)
            path = _ensure(context, bento_home, contract, certificate)
    except OSError as error:
        raise BuildError(
            f"the Bento of {contract.model} version {contract.version} cannot be written: "
            f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
        ) from error
    files = (file for file in path.rglob("*") if file.is_file())
    return BuiltBento(
        tag=f"{path.parent.name}:{path.name}",
        path=path,
        digest=read_bundle(path).digest,
        size_bytes=sum(file.stat().st_size for file in files),
    )
