"""A Bento as a tar: the same files give the same bytes, and nothing in it can leave its folder."""

import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from deploy.artifacts.errors import DamagedArtifactError

MAX_BYTES, MAX_FILES = 4 << 30, 10_000
_CHUNK = 1 << 20
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE)


def pack(folder: Path, file: BinaryIO) -> None:
    """Its regular files, sorted, without times, owners and bytecode. DamagedArtifactError where
    there is anything else than files and folders."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, path in _files(folder):
            entry = tarfile.TarInfo(name)
            status = path.stat()
            entry.size = status.st_size
            entry.mode = 0o755 if status.st_mode & 0o100 else 0o644
            with path.open("rb") as source:
                tar.addfile(entry, source)


def _files(folder: Path) -> list[tuple[str, Path]]:
    found = []
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        if "__pycache__" in relative.parts or (path.is_dir() and not path.is_symlink()):
            continue
        if path.is_symlink() or not path.is_file():
            raise DamagedArtifactError(f"{path} is no regular file: it cannot be published")
        found.append((relative.as_posix(), path))
    return sorted(found)


def unpack(file: BinaryIO, folder: Path, max_bytes: int = MAX_BYTES) -> None:
    """Into an empty folder. DamagedArtifactError for all that `pack` does not write: links,
    devices, absolute and parent paths, names that stand twice, more than the limits."""
    seen: set[str] = set()
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in _members(tar, max_bytes):
                _require(member, seen)
                _extract(tar, member, folder)
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise DamagedArtifactError(f"the Bento's tar cannot be read: {error}") from error


def _members(tar: tarfile.TarFile, max_bytes: int) -> Iterator[tarfile.TarInfo]:
    total = 0
    for number, member in enumerate(tar):
        total += member.size
        if number >= MAX_FILES or total > max_bytes:
            raise DamagedArtifactError(
                f"the Bento's tar has more than {MAX_FILES} files or {max_bytes} bytes"
            )
        yield member


def _require(member: tarfile.TarInfo, seen: set[str]) -> None:
    name = member.name
    parts = PurePosixPath(name).parts
    if member.type not in _REGULAR or member.issparse():
        raise DamagedArtifactError(f"the Bento's tar has {name!r}, which is no regular file")
    if not parts or name != "/".join(parts) or ".." in parts or "\0" in name:
        raise DamagedArtifactError(f"the Bento's tar has the path {name!r}")
    if name in seen:
        raise DamagedArtifactError(f"the Bento's tar has {name!r} twice")
    seen.add(name)


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    source, target, left = tar.extractfile(member), folder / member.name, member.size
    if source is None:
        raise DamagedArtifactError(f"the Bento's tar has {member.name!r}, which is no file")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as copy:
            while data := source.read(_CHUNK):
                left -= copy.write(data)
        target.chmod(0o755 if member.mode & 0o100 else 0o644)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise DamagedArtifactError(
            f"the Bento's tar has {member.name!r} as a file and as a folder"
        ) from error
    if left:
        raise DamagedArtifactError(f"the Bento's tar ends in the middle of {member.name!r}")
