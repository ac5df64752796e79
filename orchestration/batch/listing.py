"""The files of an input."""

import os
import re
import stat
from collections.abc import Iterator
from typing import Any

from deploy.storage_errors import shown
from orchestration.batch.documents import Format, SourceFile
from orchestration.batch.errors import InputError
from orchestration.batch.storage import file_tag, is_local, open_location, storage_errors

_SUFFIXES: dict[str, Format] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".csv.gz": "csv",
    ".arrow": "arrow",
    ".feather": "arrow",
}
_MAGIC = re.compile(r"[*?[]")


def find_files(url: str) -> tuple[Format, tuple[SourceFile, ...]]:
    """A file, a folder (with subfolders; names that begin with `_` or `.` are skipped) or a glob
    pattern; `.parquet`, `.csv` and `.csv.gz`, `.arrow` and `.feather`, all of one format, sorted
    by path. InputError where there is none, where there are several formats, and for a file of
    another kind: rows that nobody reads should not go unnoticed.

    Links are followed. A partition folder (`day=2026-01-01`) is a folder like any other.
    """
    filesystem, path = open_location(url)
    with storage_errors(url):
        filesystem.invalidate_cache()
        root, base, matches = _matches(filesystem, path, url)
        found = {name: info for match in matches for name, info in _files(filesystem, match)}
        names = [name for name in sorted(found) if not _hidden(name.removeprefix(root))]
        tags = [file_tag(filesystem, name, found[name]) for name in names]
    files = tuple(
        SourceFile(_address(filesystem, base, root, name), size, tag)
        for name, (size, tag) in zip(names, tags, strict=True)
    )
    if not files:
        raise InputError(f"{shown(url)}: there is no file in it; names with _ or . do not count")
    return _format(files), files


def _matches(filesystem: Any, path: str, url: str) -> tuple[str, str, list[str]]:
    """The folder (or file) in which all is, as a path and as it was named, and what in it is
    meant: itself, or what a pattern matches."""
    try:
        filesystem.info(path)
        return path, url, [path]
    except FileNotFoundError:
        if not _MAGIC.search(path):
            raise
    matches = sorted(filesystem.glob(path))
    if not matches:
        raise InputError(f"{shown(url)}: no file has such a name")
    return _folder(path), _folder(url), matches


def _folder(pattern: str) -> str:
    """What comes before a pattern's first wildcard."""
    return _MAGIC.split(pattern)[0].rpartition("/")[0] + "/"


def _files(filesystem: Any, path: str) -> Iterator[tuple[str, dict[str, Any] | None]]:
    if is_local(filesystem):
        yield from ((name, None) for name in _local_files(path))
        return
    for name, info in filesystem.find(path, detail=True).items():
        if info["type"] == "file" and not name.endswith("/"):
            yield name, info


def _local_files(path: str) -> Iterator[str]:
    if not os.path.isdir(path):
        yield _regular(path)
        return
    seen: set[str] = set()
    for folder, folders, names in os.walk(path, followlinks=True, onerror=_raise):
        # A link to a folder that was read, or to one above.
        if (real := os.path.realpath(folder)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _hidden(name))
        yield from (_regular(os.path.join(folder, name)) for name in names if not _hidden(name))


def _regular(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InputError(f"{path!r}: its name is not UTF-8; rename it") from None
    with storage_errors(path):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise InputError(f"{path}: not a regular file")
    return path


def _raise(problem: OSError) -> None:
    raise problem


def _hidden(path: str) -> bool:
    return any(name.startswith(("_", ".")) for name in path.split("/"))


def _address(filesystem: Any, base: str, root: str, path: str) -> str:
    """As `open_location` takes it: a local path, or a URL that begins as the input's does."""
    if is_local(filesystem):
        return path
    below = path.removeprefix(root.rstrip("/"))
    return (base if base.endswith("://") else base.rstrip("/")) + below


def _format(files: tuple[SourceFile, ...]) -> Format:
    formats: dict[Format, str] = {}
    for file in files:
        suffix = next((s for s in _SUFFIXES if file.path.lower().endswith(s)), None)
        if suffix is None:
            raise InputError(
                f"{file.path}: neither {', '.join(_SUFFIXES)}; rename it or give a pattern that "
                "leaves it out, such as *.parquet"
            )
        formats.setdefault(_SUFFIXES[suffix], file.path)
    if len(formats) > 1:
        raise InputError(
            f"{' and '.join(list(formats.values())[:2])} have different formats; give a pattern "
            "for those of one, such as *.parquet"
        )
    return next(iter(formats))
