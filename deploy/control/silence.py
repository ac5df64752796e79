"""Candidates that do not answer: for how long that is no reason to go back."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta

from deploy.analysis.verdict import Analysis
from deploy.control.look import Look
from deploy.targets.base import TargetError

_LOOKS = 5
_Key = tuple[str, ...]


class Silence:
    """Of each model's candidate, by (environment, model).

    ready_seconds: by environment, how long a server may load. The platform starts the servers
    together with this process, at `started`: until then silence says nothing, unless the
    candidate has answered already.
    """

    def __init__(self, ready_seconds: Mapping[str, float], started: datetime) -> None:
        self._ready_seconds, self._started = ready_seconds, started
        self._looks: Counter[_Key] = Counter()
        self._answered: dict[_Key, str] = {}

    def ended(self, key: _Key, candidate: str) -> None:
        """It has answered."""
        self.forget(key)
        self._answered[key] = candidate

    def forget(self, key: _Key) -> None:
        """The release is at another event: count anew."""
        self._looks.pop(key, None)

    def judge(self, key: _Key, look: Look, error: TargetError, moment: datetime) -> Analysis:
        """Hold, unless it is the candidate alone that has not answered for a few looks."""
        if not self._may_load(key, look, moment) and look.is_candidates_fault():
            self._looks[key] += 1
        else:
            self.forget(key)
        is_gone = self._looks[key] >= _LOOKS
        reason = f"version {look.phase.candidate} does not answer: {error}"
        return Analysis(
            decision="rollback" if is_gone else "hold",
            reason=reason if is_gone else str(error),
            requests=0,
            seconds=look.watched,
        )

    def _may_load(self, key: _Key, look: Look, moment: datetime) -> bool:
        seconds = self._ready_seconds.get(look.event.environment, 0.0)
        is_new = moment < self._started + timedelta(seconds=seconds)
        return is_new and self._answered.get(key) != look.phase.candidate
