"""Where inputs and outputs are: paths of this machine and fsspec URLs."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from deploy.storage_errors import DEFECTS, has_credentials, reason, shown
from orchestration.batch.errors import BatchError, InputError

P = ParamSpec("P")
T = TypeVar("T")


def open_location(url: str, error: type[BatchError] = InputError) -> tuple[Any, str]:
    """The file system of a path or URL, and the path in it. Without a scheme it is a local path,
    as it stands: nothing in it is a pattern here.

    error: of which kind what goes wrong is. Credentials come from the file system's own
    configuration, never from the URL, which is written into manifests.
    """
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    if "://" not in url:
        return LocalFileSystem(), os.path.abspath(os.path.expanduser(url))
    _refuse(url, error)
    try:
        filesystem, path = url_to_fs(url)
    except Exception as problem:  # TypeError of those that need more than a URL, too
        raise error(f"{shown(url)}: {reason(problem)}") from problem
    return filesystem, os.path.abspath(path) if is_local(filesystem) else path


def _refuse(url: str, error: type[BatchError]) -> None:
    from fsspec import available_protocols

    scheme = url.partition("://")[0]
    if "::" in url:
        raise error(f"{shown(url)}: a URL inside a URL (::) is not taken; unpack the file first")
    if scheme not in available_protocols():
        raise error(f"{shown(url)}: unknown scheme {scheme!r}; known are s3, gs, abfs, file, …")
    if has_credentials(url):
        raise error(
            f"{shown(url)}: credentials in a URL would be written into the manifest; give them to "
            f"fsspec's configuration (FSSPEC_{scheme.upper()}_…) or to the storage's own variables"
        )


def is_local(filesystem: Any) -> bool:
    """Whether its paths are those of this machine."""
    from fsspec.implementations.local import LocalFileSystem

    return isinstance(filesystem, LocalFileSystem)


@contextmanager
def storage_errors(location: str, error: type[BatchError] = InputError) -> Iterator[None]:
    """What goes wrong inside becomes one sentence about `location`."""
    try:
        yield
    except (BatchError, *DEFECTS):
        raise
    except Exception as problem:
        raise error(f"{shown(location)}: {reason(problem)}") from problem


def raises_os_error(method: Callable[P, T]) -> Callable[P, T]:
    """Storage libraries have classes of their own for what goes wrong (botocore, gcsfs, azure)."""

    @wraps(method)
    def call(*arguments: P.args, **named: P.kwargs) -> T:
        try:
            return method(*arguments, **named)
        except (OSError, BatchError, *DEFECTS):
            raise
        except Exception as problem:
            raise OSError(reason(problem)) from problem

    return call


def file_tag(filesystem: Any, path: str, info: dict[str, Any] | None = None) -> tuple[int, str]:
    """(size, what changes when the bytes do): the storage's own tag of the file, else size and
    time of change."""
    if is_local(filesystem):
        found = os.stat(path)
        return found.st_size, f"{found.st_size}-{found.st_mtime_ns}"
    info = info or filesystem.info(path)
    size = int(info["size"])
    for name in ("ETag", "etag", "md5Hash", "checksum"):
        if info.get(name):
            return size, str(info[name]).strip('"')
    return size, f"{size}-{_changed(filesystem, path)}"


def _changed(filesystem: Any, path: str) -> str:
    try:
        return str(filesystem.modified(path).isoformat())
    except NotImplementedError:
        return "unknown"


def open_input(url: str, **options: Any) -> Any:
    """A binary file to read, with `seek`; options: of the file system's `open`."""
    from fsspec.implementations.memory import MemoryFileSystem
    from pyarrow import BufferReader, OSFile

    filesystem, path = open_location(url)
    if is_local(filesystem):
        return OSFile(path)
    if isinstance(filesystem, MemoryFileSystem):
        # All who open a file of this file system share one position in it.
        with filesystem.open(path) as file:
            return BufferReader(file.getvalue())
    return filesystem.open(path, "rb", **options)
