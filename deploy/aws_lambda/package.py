"""One Bento as the zip of a Lambda function: `python -m deploy.aws_lambda.package MODEL:TAG`.

What is in it: the Bento's own sources and model, the packages that they need (in the versions that
the Bento pins and the serving lock has; neither BentoML nor uvicorn), and the handler. The same
Bento gives the same bytes.
"""

import argparse
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import deploy
from bentos.model_server.certificate import CertificateError
from deploy.home import find_home
from deploy.release import PROVING_ENVIRONMENT, Release, ReleaseError

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html: 250 MB unpacked.
LIMIT_BYTES = 250 << 20
CHECKOUT = Path(deploy.__file__).resolve().parents[1]
LOCK = CHECKOUT / "requirements" / "serving.lock"
# Lambda speaks HTTP for the function, and no Redis is asked: these would only be weight.
_NOT_NEEDED = {"bentoml", "hiredis", "redis", "uvloop"}
_FOLDERS = ("tests", "test", "__pycache__", "bin", "include")
_FILES = ("*.pyc", "*.pyi", "*.h", "*.a")
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)( ;[^\\\n]*)?", re.MULTILINE)
ENTRY = """\
from deploy.aws_lambda.handler import function

lambda_handler = function({tag!r})
"""


class PackageError(RuntimeError):
    """There is no package; one sentence says why."""


@dataclass(frozen=True)
class Runtime:
    """python: of the function, from 3.12, whose Amazon Linux has the glibc that ONNX Runtime
    wants; architecture: x86_64 or aarch64 (AWS calls it arm64)."""

    python: str = "3.13"
    architecture: str = "x86_64"


def package(
    release: Release, bento: Path, output: Path, runtime: Runtime, keys: Path | None
) -> str:
    """Write the zip; returns what is in it, by size. bento: its folder."""
    try:
        release.require_certificate(PROVING_ENVIRONMENT)
    except CertificateError as error:
        raise PackageError(f"{release.tag} must not be deployed: {error}") from error
    with tempfile.TemporaryDirectory(prefix="slipway-lambda-") as folder:
        root = Path(folder)
        install(root, bento / "src" / "requirements.txt", runtime)
        add_sources(root, bento / "src", release.tag, keys)
        sizes = checked_sizes(root)
        write_zip(root, output)
    return report(sizes, output)


def install(root: Path, requirements: Path, runtime: Runtime) -> None:
    """The packages, as built for Amazon Linux, without what no function reads."""
    wanted = {name: version for name, version, _ in _PIN.findall(requirements.read_text())}
    pins = [f"{name}=={wanted[name]}" for name in sorted(wanted) if name not in _NOT_NEEDED]
    pins.append(f"mangum=={_version('mangum')}")
    lock = [
        f"{name}=={version}{marker}"
        for name, version, marker in _PIN.findall(LOCK.read_text())
        if name not in wanted
    ]
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "constraints.txt")
        constraints.write_text("\n".join(lock) + "\n")
        platform = f"{runtime.architecture}-manylinux_2_34"
        _run(
            *(_uv(), "pip", "install", "--quiet", "--target", str(root), "--no-compile-bytecode"),
            *("--python-version", runtime.python, "--python-platform", platform),
            *("--only-binary", ":all:", "--constraint", str(constraints), *pins),
        )
    _strip(root)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        raise PackageError(f"{name} is not installed here: pip install 'slipway[lambda]'") from None


def _uv() -> str:
    found = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if found is None:
        raise PackageError("uv is not installed here: pip install uv")
    return found


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        # uv draws a tree around its sentences.
        reason = " ".join(re.sub(r"[^\x20-\x7e]", " ", done.stderr).split())
        raise PackageError(f"the packages cannot be installed: {reason[:1000]}")


def _strip(root: Path) -> None:
    for name in _FOLDERS:
        for folder in sorted(root.rglob(name)):
            shutil.rmtree(folder, ignore_errors=True)
    for pattern in _FILES:
        for file in sorted(root.rglob(pattern)):
            file.unlink()


def add_sources(root: Path, src: Path, tag: str, keys: Path | None) -> None:
    """The Bento's own files as they were proved, and the handler."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in ("bentos", "model"):
        shutil.copytree(src / name, root / name, ignore=ignored)
    package = root / "deploy" / "aws_lambda"
    package.mkdir(parents=True)
    (root / "deploy" / "__init__.py").write_text('"""What the function needs of it."""\n')
    for name in ("__init__.py", "handler.py"):
        shutil.copyfile(Path(__file__).with_name(name), package / name)
    (root / "lambda_function.py").write_text(ENTRY.format(tag=tag))
    if keys is not None:
        shutil.copyfile(keys, root / "keys.json")


def checked_sizes(root: Path) -> dict[str, int]:
    """Bytes by what lies at the top; PackageError where it is more than Lambda takes."""
    sizes: dict[str, int] = {}
    for file in root.rglob("*"):
        if file.is_file():
            part = file.relative_to(root).parts[0]
            sizes[part] = sizes.get(part, 0) + file.stat().st_size
    total = sum(sizes.values())
    if total > LIMIT_BYTES:
        raise PackageError(
            f"the function would be {_mb(total)} unpacked, Lambda takes {_mb(LIMIT_BYTES)}; the "
            f"largest parts: {_largest(sizes)}"
        )
    return sizes


def _largest(sizes: dict[str, int], most: int = 5) -> str:
    ordered = sorted(sizes, key=lambda part: (-sizes[part], part))
    return ", ".join(f"{part} {_mb(sizes[part])}" for part in ordered[:most])


def _mb(size: int) -> str:
    return f"{size / (1 << 20):.1f} MB"


def report(sizes: dict[str, int], output: Path) -> str:
    """What was packaged, in two lines."""
    packed = _mb(output.stat().st_size)
    return (
        f"{output}: {packed}, {_mb(sum(sizes.values()))} unpacked of {_mb(LIMIT_BYTES)}\n"
        f"largest: {_largest(sizes, 6)}"
    )


def write_zip(root: Path, output: Path) -> None:
    """The same files give the same bytes: sorted, without times, readable by everybody."""
    unfinished = output.with_name(f"{output.name}.part")
    try:
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for file in sorted(root.rglob("*"), key=lambda path: path.as_posix()):
                if file.is_file():
                    name = file.relative_to(root).as_posix()
                    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                    entry.external_attr = 0o644 << 16
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    archive.writestr(entry, file.read_bytes())
        os.replace(unfinished, output)
    finally:
        unfinished.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> None:
    """The command; every error is one line."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.aws_lambda.package", description=__doc__
    )
    parser.add_argument(
        "tag", metavar="MODEL:TAG", help="a Bento of the home, as in slipway status"
    )
    parser.add_argument("--output", type=Path, required=True, help="the zip to write")
    parser.add_argument("--python", default="3.13", choices=["3.12", "3.13"])
    parser.add_argument("--architecture", default="x86_64", choices=["x86_64", "aarch64"])
    parser.add_argument("--keys", type=Path, help="a keys.json (hashes) to go with it")
    given = parser.parse_args(arguments)
    store = find_home(CHECKOUT).bentoml
    name, _, version = given.tag.partition(":")
    try:
        release = Release.load(given.tag, store)
        bento = store / "bentos" / name / version
        runtime = Runtime(given.python, given.architecture)
        print(package(release, bento, given.output, runtime, given.keys))  # noqa: T201
    except (PackageError, ReleaseError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
