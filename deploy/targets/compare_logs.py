"""The access logs of two servers that got the same requests, joined by request id.

A look reads what was written since the one before. Both logs are read abreast by the time in
their lines, so that a first look at long files holds no more than a later one.

What a mirrored share leaves out cannot be told from what the candidate lost without a line: the
gateway's own counters know that, here it is no pair.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from deploy.analysis.agreement import Agreement, apart, disagree, is_slower
from deploy.targets.log_tail import LogTail

# Requests that only one of the two has answered so far, and ids that were a pair already.
MAX_WAITING = 100_000
MAX_WAITING_SECONDS = 60
_IDLE_SECONDS = 60.0
_OK = 200
_ERROR = 400
_TO_MILLISECONDS = len("2026-01-01T00:00:00.000")


class Compared(msgspec.Struct, gc=False):
    """What is read of a line of the access log, see `bentos.model_server.access_log.Line`."""

    time: str
    request_id: str
    status: int
    duration_ms: float
    predictions: list[Any] | None = None
    probabilities: list[list[float]] | None = None


_decode = msgspec.json.Decoder(Compared).decode


def _milliseconds(at: datetime) -> str:
    """As lines have it; such texts sort by time."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds")[:_TO_MILLISECONDS]


class _Side:
    """One server: its log, and what it answered that the other one has not, by request id.

    newest: time of the last line that was read.
    """

    def __init__(self, path: Path) -> None:
        self._tail = LogTail(path)
        self.waiting: OrderedDict[str, Compared] = OrderedDict()
        self.newest = ""

    def groups(self) -> Iterator[list[Compared]]:
        """What there is to be compared, some at a time."""
        for lines in self._tail.groups():
            found = [line for text in lines if (line := _line(text)) is not None]
            if found:
                self.newest = found[-1].time
            yield found

    def forget(self, before: str) -> None:
        """Drop what has waited since before that time, and the oldest of too many."""
        while self.waiting:
            request_id, line = self.waiting.popitem(last=False)
            if line.time >= before and len(self.waiting) < MAX_WAITING:
                self.waiting[request_id] = line
                self.waiting.move_to_end(request_id, last=False)
                return


def _line(text: bytes) -> Compared | None:
    """An answer that can be compared or an error; None for everything else that is in a log."""
    compared = b'"predictions":' in text
    if not compared and (b'"slipway.access"' not in text or b'"status":200' in text):
        return None
    try:
        return _decode(text)
    except msgspec.DecodeError:  # half a line
        return None


class ComparedLogs:
    """Counts from `since` on: UTC, ISO 8601. slowdown: how many times as long is slow."""

    def __init__(self, candidate: Path, stable: Path, since: str, slowdown: float) -> None:
        self._candidate, self._stable = _Side(candidate), _Side(stable)
        self._since = _milliseconds(datetime.fromisoformat(since))
        # A client may choose its request ids: only the first pair of one counts.
        self._paired: OrderedDict[str, None] = OrderedDict()
        self._slowdown = slowdown
        self._agreement = Agreement()
        self._lock = threading.Lock()

    def look(self) -> Agreement:
        """Read on, and what that makes altogether. Raises OSError where a log cannot be read."""
        with self._lock:
            reading = {side: side.groups() for side in (self._candidate, self._stable)}
            while reading:
                side = min(reading, key=lambda side: side.newest)
                lines = next(reading[side], None)
                if lines is None:
                    del reading[side]
                else:
                    self._take(side, lines)
            return self._agreement

    def _take(self, side: _Side, lines: list[Compared]) -> None:
        other = self._stable if side is self._candidate else self._candidate
        for line in lines:
            if line.time < self._since or line.request_id in self._paired:
                continue
            if side is self._stable and line.status != _OK:
                continue
            found = other.waiting.pop(line.request_id, None)
            if found is None:
                side.waiting.setdefault(line.request_id, line)
                continue
            self._paired[line.request_id] = None
            pair = (line, found) if side is self._candidate else (found, line)
            self._agreement += compared(*pair, self._slowdown)
        self._forget()

    def _forget(self) -> None:
        newest = max(self._candidate.newest, self._stable.newest)
        if newest:
            oldest = datetime.fromisoformat(newest) - timedelta(seconds=MAX_WAITING_SECONDS)
            self._candidate.forget(_milliseconds(oldest))
            self._stable.forget(_milliseconds(oldest))
        while len(self._paired) > MAX_WAITING:
            self._paired.popitem(last=False)


def compared(candidate: Compared, stable: Compared, slowdown: float) -> Agreement:
    """What two lines of one request, which the stable version has answered, add up to."""
    if candidate.status >= _ERROR:
        return Agreement(failed=1)
    if candidate.predictions is None or stable.predictions is None:
        return Agreement()
    classes = stable.probabilities is not None
    differ = [
        disagree(ours, theirs, classes=classes)
        for ours, theirs in zip(candidate.predictions, stable.predictions, strict=False)
    ]
    rows = zip(candidate.probabilities or (), stable.probabilities or (), differ, strict=False)
    return Agreement(
        pairs=1,
        rows=len(differ),
        rows_squared=len(differ) ** 2,
        disagreements=sum(differ),
        difference=sum(apart(ours, theirs, same_class=not other) for ours, theirs, other in rows),
        candidate_ms=candidate.duration_ms,
        stable_ms=stable.duration_ms,
        slower=is_slower(candidate.duration_ms, stable.duration_ms, slowdown),
        faster=is_slower(stable.duration_ms, candidate.duration_ms, slowdown),
    )


class KeptLogs:
    """One `ComparedLogs` for each release in progress, which knows where the last look ended;
    forgotten when nobody has looked for a while. One that was forgotten too early reads anew."""

    def __init__(self, idle_seconds: float) -> None:
        self._idle_seconds = idle_seconds
        self._kept: dict[tuple[Path, Path, str, float], tuple[ComparedLogs, threading.Timer]] = {}
        self._lock = threading.Lock()

    def logs(self, candidate: Path, stable: Path, since: str, slowdown: float) -> ComparedLogs:
        """See `ComparedLogs`."""
        key = (candidate, stable, since, slowdown)
        timer = threading.Timer(self._idle_seconds, self._kept.pop, (key, None))
        timer.daemon = True
        with self._lock:
            logs, last = self._kept.get(key, (None, None))
            if last is not None:
                last.cancel()
            logs = logs or ComparedLogs(*key)
            self._kept[key] = logs, timer
            timer.start()
            return logs


KEPT = KeptLogs(_IDLE_SECONDS)
