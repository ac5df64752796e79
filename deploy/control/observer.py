"""What every live model server counts, looked at once each tick for all who need it."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from deploy.analysis.window import Window
from deploy.events import Counters
from deploy.supervision import SupervisorError
from deploy.targets.base import Target, TargetError

_AT_ONCE = 8  # a server that hangs does not keep the others waiting


@dataclass(frozen=True)
class Observation:
    """One server. total: since it started, None before the first look that succeeded. recent: what
    it counted within the window, over `seconds`. failing_since: monotonic seconds, since when it
    cannot be observed, and `failure` why; both None while it can."""

    total: Counters | None = None
    recent: Counters = Counters()  # noqa: RUF009 - frozen
    seconds: float = 0.0
    failing_since: float | None = None
    failure: TargetError | None = None


class Observer:
    """tick() by one thread; the other methods by any. live: the clusters of what is live."""

    def __init__(
        self,
        live: Callable[[], Iterable[str]],
        target: Target,
        window_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._live, self._target, self._clock = live, target, clock
        self._window_seconds = window_seconds
        self._windows: dict[str, Window] = {}
        self._observations: dict[str, Observation] = {}
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="observe")

    def tick(self) -> None:
        """Look at every live server; those that are no longer live are forgotten. LedgerError."""
        names = set(self._live())
        self._windows = {name: self._windows.get(name) or self._window() for name in names}
        # Replaced as a whole: a reader in another thread sees one look or the next.
        self._observations = dict(zip(names, self._threads.map(self._look, names), strict=True))

    def observation(self, name: str) -> Observation | None:
        """The last look at one live server; None before its first one."""
        return self._observations.get(name)

    def observations(self) -> dict[str, Observation]:
        """The last look at all live servers, by cluster name."""
        return dict(self._observations)

    def close(self) -> None:
        """End its threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _window(self) -> Window:
        return Window(self._window_seconds)

    def _observe(self, name: str) -> Counters:
        try:
            return self._target.observe(name)
        except SupervisorError as error:
            raise TargetError(f"{name} cannot be observed: {error}") from error

    def _look(self, name: str) -> Observation:
        window, before = self._windows[name], self._observations.get(name, Observation())
        try:
            counters = self._observe(name)
        except TargetError as error:
            since = self._clock() if before.failing_since is None else before.failing_since
            return Observation(before.total, *window.counted(), since, error)
        window.add(self._clock(), counters)
        return Observation(counters, *window.counted())
