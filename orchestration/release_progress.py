"""A release in progress, in words: for Dagster's log and the command line."""

from collections.abc import Callable

from deploy.analysis.verdict import Finding
from deploy.control.progress import Progress

_SAY_SECONDS = 10.0


def phase_title(name: str, weight: int) -> str:
    """`canary 10 %`; a shadow's weight is the share of requests that are copied."""
    return name if name == "bake" else f"{name} {weight} %"


def sentence(progress: Progress) -> str:
    """`canary 10 %: 312 of 500 requests, 12 of 60 s, errors 0.3 % (stable 0.1 %), …`"""
    analysis = progress.analysis
    parts = [f"{analysis.requests} of {progress.wanted_requests} requests"]
    parts.append(f"{analysis.seconds:.0f} of {progress.wanted_seconds:.0f} s")
    errors = [_errors(found) for found in analysis.findings if found.metric == "errors"]
    parts += errors[:1]
    breached = [found for found in analysis.findings if found.breached]
    if breached:
        parts.append(analysis.reason)
    elif progress.phase != "bake":
        parts.append("no difference found")
    return f"{phase_title(progress.phase, progress.weight)}: {', '.join(parts)}"


def is_release_of(progress: Progress, label: str) -> bool:
    """Whether it is that version's way to all traffic; its bake time comes after that."""
    return progress.phase != "bake" and progress.candidate == label


def _errors(found: Finding) -> str:
    stable = f" (stable {_percent(found.stable.count, found.stable.total)})" if found.stable else ""
    return f"errors {_percent(found.candidate.count, found.candidate.total)}{stable}"


def _percent(count: int, total: int) -> str:
    return f"{count / total:.1%}".replace("%", " %") if total else "none yet"


class Reporter:
    """Says how far a release is: each new step at once, in between now and then."""

    def __init__(self, say: Callable[[str], None], every: float = _SAY_SECONDS) -> None:
        self._say, self._every = say, every
        self._said: tuple[str, int, str] | None = None
        self._at = 0.0

    def look(self, progress: Progress | None, now: float) -> None:
        """One look, at `now` (monotonic seconds)."""
        if progress is None:
            return
        about = (progress.phase, progress.step, progress.analysis.decision)
        if about != self._said or now - self._at >= self._every:
            self._say(sentence(progress))
            self._said, self._at = about, now
