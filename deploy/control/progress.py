"""How far a release in progress is: the controller writes it at each look, for all to read."""

import os
from pathlib import Path

import msgspec

from deploy.analysis.verdict import Analysis
from deploy.home import Home


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """One look. phase: shadow, canary or bake; weight: percent of the traffic that the candidate
    has, or of the requests that are copied to it; wanted_requests, wanted_seconds: what the phase
    needs before it ends; began, at: of the phase and of the look, UTC, ISO 8601.
    analysis.seconds: those that were watched, so that a controller that starts anew goes on."""

    environment: str
    model: str
    generation: int
    candidate: str
    stable: str | None
    phase: str
    step: int
    weight: int
    wanted_requests: int
    wanted_seconds: float
    analysis: Analysis
    at: str
    began: str = ""


def _path(home: Home, environment: str, model: str) -> Path:
    return home.run / "releases" / f"{environment}.{model}.json"


def write_progress(home: Home, progress: Progress) -> None:
    """Replace what the last look said, by rename; it need not outlive a power cut."""
    path = _path(home, progress.environment, progress.model)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(msgspec.json.encode(progress))
    temporary.replace(path)


def read_progress(home: Home, environment: str, model: str) -> Progress | None:
    """The last look, or None where no release is in progress."""
    try:
        data = _path(home, environment, model).read_bytes()
    except FileNotFoundError:
        return None
    return msgspec.json.decode(data, type=Progress)


def clear_progress(home: Home, environment: str, model: str) -> None:
    """The release is over."""
    _path(home, environment, model).unlink(missing_ok=True)
