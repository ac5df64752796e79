"""How far a release in progress is: the controller writes it at each look, for all to read."""

from pathlib import Path

import msgspec

from deploy.analysis.verdict import Analysis
from deploy.home import Home


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """One look. phase: shadow, canary or bake; weight: percent of the traffic that the candidate
    has, or of the requests that are copied to it; wanted_requests, wanted_seconds: what the phase
    needs before it ends; at: UTC, ISO 8601."""

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


def _path(home: Home, environment: str, model: str) -> Path:
    return home.run / "releases" / f"{environment}.{model}.json"


def write_progress(home: Home, progress: Progress) -> None:
    """Replace what the last look said."""
    raise NotImplementedError


def read_progress(home: Home, environment: str, model: str) -> Progress | None:
    """The last look, or None where no release is in progress."""
    raise NotImplementedError


def clear_progress(home: Home, environment: str, model: str) -> None:
    """The release is over."""
    raise NotImplementedError
