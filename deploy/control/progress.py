"""How far a release in progress is: the controller writes it at each look, for all to read."""

import msgspec

from deploy.analysis.verdict import Analysis
from deploy.home import Home
from deploy.shared_state import shared_state

_KIND = "progress"


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


def _key(environment: str, model: str) -> str:
    return f"{environment}/{model}"


def write_progress(home: Home, progress: Progress) -> None:
    """Replace what the last look said."""
    key = _key(progress.environment, progress.model)
    shared_state(home).write(_KIND, key, msgspec.json.encode(progress))


def read_progress(home: Home, environment: str, model: str) -> Progress | None:
    """The last look, or None where no release is in progress."""
    found = shared_state(home).read(_KIND, _key(environment, model))
    return None if found is None else msgspec.json.decode(found.data, type=Progress)


def clear_progress(home: Home, environment: str, model: str) -> None:
    """The release is over."""
    if shared_state(home).read(_KIND, _key(environment, model)) is not None:
        shared_state(home).remove(_KIND, _key(environment, model))
