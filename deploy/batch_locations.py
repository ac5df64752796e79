"""Where a batch job that came over HTTP may read and write.

The command and the assets may go wherever the user of this machine may. A request may go below the
home's `batch/` and below what platform.yaml's `batch.locations` names, and nowhere else.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from deploy.batch_jobs import records_folder
from deploy.home import Home

_URL = re.compile(r"([a-z][a-z0-9+.-]+)://")
_LOCAL = ("file", "local")
_PATTERN = re.compile(r"[*?\[]")
# A password, a signature, or a web server's user: what is asked for is written into records.
_SECRET = re.compile(r"://[^/@]*:[^/@]*@|^https?://([^/@]*@|.*\?)|://.*\?[^/]*=")
# `.` and `..`, also as a server would decode them.
_DOTS = re.compile(r"(\.|%2e){1,2}", re.IGNORECASE)


class LocationError(ValueError):
    """A location that a request may not name; the message says what is wrong and what helps."""


def require_input(location: str, home: Home, locations: Sequence[str]) -> None:
    """Raise LocationError unless all that it names lies in one of the allowed places, also what
    symbolic links in it lead to."""
    _require_sound(location)
    if (path := _local_path(location)) is None:
        _require_prefix(location, home, locations)
        return
    fixed, roots = Path(*_before_patterns(Path(path).parts)), _roots(home, locations)
    for real in _real_paths(fixed):
        if not _is_within(real, roots):
            raise LocationError(_elsewhere(location, home, real))


def require_output(location: str, home: Home, locations: Sequence[str]) -> None:
    """Raise LocationError unless it is one folder below one of the allowed places."""
    _require_sound(location)
    if _PATTERN.search(location):
        raise LocationError(f"{location!r} is a pattern: name one folder")
    if (path := _local_path(location)) is None:
        _require_prefix(location, home, locations)
        return
    real, roots = _resolved(Path(path)), _roots(home, locations)
    kept = [*roots, records_folder(home).resolve()]
    # What replaces such a folder replaces all that is in it.
    if not _is_within(real, roots) or any(folder.is_relative_to(real) for folder in kept):
        raise LocationError(_elsewhere(location, home, real))
    if real.is_relative_to(records_folder(home).resolve()):
        raise LocationError(f"{location!r} is where the jobs' records are: choose another folder")


def _require_sound(location: str) -> None:
    if _SECRET.search(location):
        raise LocationError(
            f"a URL of {location.partition(':')[0]} has a password or a signature in it, which "
            "would be written into records: give it to the storage's own variables on the platform"
        )
    if "::" in location:
        raise LocationError(f"{location!r} chains file systems: name one path or URL")
    if "://" not in location and not location.startswith("/"):
        raise LocationError(f"{location!r} is relative: write an absolute path, or a URL")
    if "://" in location and not _URL.match(location):
        raise LocationError(
            f"{location!r} is no URL: write scheme://…, the scheme in small letters"
        )
    parts = location.partition("://")[2] or location
    if any(_DOTS.fullmatch(part) for part in parts.split("/")):
        raise LocationError(f"{location!r} has `.` or `..` in it: write the place itself")


def _local_path(location: str) -> str | None:
    """None for a URL of anything else."""
    found = _URL.match(location)
    if found is None:
        return location
    if found[1] not in _LOCAL:
        return None
    path = location[found.end() :]
    if not path.startswith("/"):
        raise LocationError(f"{location!r} is relative: write {found[1]}:///… with three slashes")
    return path


def _roots(home: Home, locations: Sequence[str]) -> list[Path]:
    local = (_local_path(item) for item in locations)
    return [home.batch.resolve(), *(Path(path).resolve() for path in local if path is not None)]


def _require_prefix(url: str, home: Home, locations: Sequence[str]) -> None:
    roots = (item.rstrip("/") + "/" for item in locations if _local_path(item) is None)
    if not any(url.startswith(root) and url != root for root in roots):
        raise LocationError(_elsewhere(url, home))


def _elsewhere(location: str, home: Home, real: Path | None = None) -> str:
    leads = f" (it leads to {real})" if real and str(real) != location else ""
    return (
        f"{location!r}{leads} is no place for requests: go below {home.batch}, or add its folder "
        "to batch.locations in serving_config/platform.yaml"
    )


def _is_within(path: Path, folders: Sequence[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _before_patterns(parts: Sequence[str]) -> Iterator[str]:
    """What of a glob pattern is certain."""
    for part in parts:
        if _PATTERN.search(part):
            return
        yield part


def _real_paths(path: Path) -> Iterator[Path]:
    """Its own, then where symbolic links below it lead to: they are followed when it is read."""
    yield _resolved(path)
    for folder, names, files in os.walk(path):
        for name in (*names, *files):
            if (link := Path(folder, name)).is_symlink():
                yield _resolved(link)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # no permission, or links in a circle
        raise LocationError(f"{str(path)!r} leads nowhere: {error}") from error
