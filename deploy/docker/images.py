"""What each image is built from: a folder with just that, made for the one build."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.docker.engine import Build
from deploy.release import Release

CHECKOUT = Path(__file__).parents[2]
SERVING, ORCHESTRATION = (
    f"deploy/docker/{name}.Dockerfile" for name in ("serving", "orchestration")
)
_FOR_SERVING = ("requirements", "deploy/docker")
_FOR_ORCHESTRATION = (
    *("LICENSE", "pyproject.toml", "requirements"),
    *("serving_config", "feature_repo", "bentos", "deploy", "orchestration"),
)
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.env")
_PEM = b"-----BEGIN CERTIFICATE-----"


class ImageError(RuntimeError):
    """An image cannot be built from what is there."""


def serving_name(pattern: str, release: Release) -> str:
    """The name of the image of one Bento. pattern: with `{bento}`, the Bento's version, and
    `{model}`, as the setting `kubernetes.image`."""
    model, _, version = release.tag.partition(":")
    return pattern.replace("{model}", model).replace("{bento}", version)


@contextmanager
def server_build(name: str, arguments: Mapping[str, str], extra_ca: Path | None) -> Iterator[Build]:
    """The model server's image without a Bento."""
    with _context(_FOR_SERVING, extra_ca) as context:
        yield Build(name, SERVING, context, "server", arguments)


@contextmanager
def bento_build(
    name: str, release: Release, bento: Path, arguments: Mapping[str, str], extra_ca: Path | None
) -> Iterator[Build]:
    """The image of one Bento. bento: its folder."""
    about = {
        "BENTO": release.tag,
        "BENTO_DIGEST": release.bundle.digest,
        "ONNX_SHA256": release.bundle.onnx_sha256,
    }
    with _context(_FOR_SERVING, extra_ca) as context:
        shutil.copytree(bento, context / "bento", ignore=_LEFT_OUT)
        yield Build(name, SERVING, context, "bento", {**arguments, **about})


@contextmanager
def orchestration_build(
    name: str, arguments: Mapping[str, str], extra_ca: Path | None
) -> Iterator[Build]:
    """The image of the platform's parts."""
    with _context(_FOR_ORCHESTRATION, extra_ca) as context:
        yield Build(name, ORCHESTRATION, context, None, arguments)


def revision() -> str:
    """The checkout's commit, for the images' labels; `unknown` where it is none."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    asked = subprocess.run(  # noqa: S603 - git, with arguments of ours
        [git, "-C", str(CHECKOUT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() if asked.returncode == 0 else "unknown"


@contextmanager
def _context(parts: Sequence[str], extra_ca: Path | None) -> Iterator[Path]:
    """A folder with these parts of the checkout."""
    with tempfile.TemporaryDirectory(prefix="slipway-image-") as folder:
        context = Path(folder)
        for part in parts:
            _copy(CHECKOUT / part, context / part)
        authorities = context / "requirements" / "ca"
        for file in _authorities(extra_ca):
            shutil.copyfile(file, authorities / f"{file.stem}.crt")
        yield context


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if source.is_dir():
            shutil.copytree(source, target, ignore=_LEFT_OUT)
        else:
            shutil.copyfile(source, target)
    except FileNotFoundError as error:
        raise ImageError(
            f"{error.filename} is not there: images are built from a checkout of Slipway"
        ) from error


def _authorities(extra_ca: Path | None) -> list[Path]:
    """A PEM file, or all that lie in a folder as *.crt."""
    if extra_ca is None:
        return []
    files = sorted(extra_ca.glob("*.crt")) if extra_ca.is_dir() else [extra_ca]
    try:
        wrong = [file for file in files if _PEM not in file.read_bytes()]
    except OSError as error:
        raise ImageError(f"the extra CA {error.filename}: {error.strerror}") from error
    if wrong or not files:
        raise ImageError(f"the extra CA {(wrong or [extra_ca])[0]} holds no PEM certificate")
    return files
