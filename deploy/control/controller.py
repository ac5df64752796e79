"""The controller: it takes every release in progress further, by what is observed.

It keeps nothing that matters: a release stands where the ledger's last event says. Started anew
it goes on, and where somebody was killed in the middle of a change it ends it.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from bentos.model_server.certificate import CertificateError
from deploy.analysis.verdict import Analysis
from deploy.changes import carry_out, is_of, tidy
from deploy.control.last_events import LastEvents
from deploy.control.look import Clock, Look
from deploy.control.probes import Probes
from deploy.control.progress import Progress, clear_progress, read_progress, write_progress
from deploy.control.silence import Silence
from deploy.events import Actor, Event, LedgerConflictError, LedgerError, Phase, State
from deploy.home import Home
from deploy.live import clusters
from deploy.phases import began, begin, find, following, without
from deploy.release import ReleaseError
from deploy.targets.base import TargetError
from deploy.traffic import NothingToRollBackToError, Traffic
from deploy.versions import MissingFileError

logger = logging.getLogger("slipway.controller")
Key = tuple[str, ...]
NAME = "controller"
# After a change that failed: the gateway that refuses a route shall not fill the ledger.
_PAUSE = timedelta(seconds=10)
_WORKERS = 8
_NO_WAY_BACK = (NothingToRollBackToError, ReleaseError, CertificateError, MissingFileError)
_PROBES = "probe_requests_per_second"


class Controller:
    """`tick` about once a second. Each model is looked at in a thread of its own, one at a time:
    a server that is slow to start or to stop holds nobody else up. ready_seconds: by environment,
    how long its servers may load: they are started together with this one. executor, clock: for
    tests."""

    def __init__(
        self,
        traffic: Traffic,
        home: Home,
        *,
        ready_seconds: Mapping[str, float],
        clock: Clock = lambda: datetime.now(UTC),
        executor: Executor | None = None,
    ) -> None:
        self._traffic, self._home, self._clock = traffic, home, clock
        self._ledger, self._target = traffic.ledger, traffic.target
        self._executor = executor or ThreadPoolExecutor(_WORKERS, thread_name_prefix=NAME)
        self._last_events = LastEvents(self._ledger)
        self._busy: set[Key] = set()
        self._pauses: dict[Key, datetime] = {}
        self._said: dict[Key, str] = {}
        self._cleared: set[Key] = set()
        self._silence = Silence(ready_seconds, clock())
        self._probes = Probes(traffic)

    def run(self, stop: threading.Event, seconds: float = 1.0) -> None:
        """Until told to stop."""
        while not stop.wait(seconds):
            self.tick()
        self.close()

    def rest(self) -> None:
        """Another process leads: no more golden requests from here."""
        self._probes.follow({})

    def close(self) -> None:
        """Begin nothing more, and wait for what has begun."""
        self._probes.close()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def tick(self) -> None:
        """One look at everything; it does not wait for what follows from it, nor raise."""
        try:
            states = self._ledger.states()
            releases = self._in_progress(states)
        except Exception as error:
            self._say(("ledger",), error)
            return
        self._start(("gateway",), self._reconcile, states)
        for event in releases:
            self._start((event.environment, event.model), self._follow, event)
        self._probes.follow(self._wanted_probes(releases))

    def _in_progress(self, states: dict[tuple[str, str], State]) -> list[Event]:
        """The last events of what is in progress; only what changed is read."""
        releases = []
        for key, state in states.items():
            if self._last_events.has_moved(state):
                self._silence.forget(key)
            last = self._last_events.of(state)
            if last is not None and "phase" in last.evidence:
                releases.append(last)
                self._cleared.discard(key)
            elif last is not None and key not in self._busy and key not in self._cleared:
                clear_progress(self._home, *key)
                self._cleared.add(key)
        return releases

    def _start(self, key: Key, act: Callable[[Any], None], subject: object) -> None:
        """Unless it is still at it, or waits after a failure."""
        if key in self._busy or self._pauses.get(key, self._clock()) > self._clock():
            return
        self._busy.add(key)
        self._executor.submit(self._do, key, act, subject)

    def _do(self, key: Key, act: Callable[[Any], None], subject: object) -> None:
        try:
            act(subject)
            self._said.pop(key, None)
        except LedgerConflictError:
            pass  # somebody else was faster: the next look sees what they did
        except Exception as error:
            self._say(key, error)
        finally:
            self._busy.discard(key)

    def _say(self, key: Key, error: Exception) -> None:
        """One line, once: the next look may come to the same."""
        text = f"{' '.join(reversed(key))}: {error}"
        if self._said.get(key) != text:
            self._said[key] = text
            logger.warning(text)

    def _reconcile(self, states: dict[tuple[str, str], State]) -> None:
        """What somebody left undone who was killed between two steps.

        What is not on the ledger may go at any time: `stop` spares what somebody is starting.
        """
        if not self._target.in_step():
            self._target.route()
        wanted = clusters(states.values())
        names = [name for name in self._target.servers() if name not in wanted]
        for environment, model in states:
            if any(is_of(name, environment, model) for name in names):
                self._start(("tidy", environment, model), self._tidy, (environment, model))

    def _tidy(self, place: tuple[str, str]) -> None:
        tidy(self._ledger, self._target, *place)

    def _follow(self, event: Event) -> None:
        """One release: look, then hold, go on, or go back."""
        phase, key, moment = event.phase, (event.environment, event.model), self._clock()
        if phase is None:
            return
        look = Look.at(moment, self._target, event, phase, self._last_look(key))
        judged = True
        try:
            analysis = look.judge()
            self._silence.ended(key, phase.candidate)
        except TargetError as error:
            analysis, judged = self._silence.judge(key, look, error, moment), False
        write_progress(self._home, look.progress(analysis, moment))
        try:
            if judged and look.is_baked() and analysis.decision == "hold":
                self._finish(event, phase, analysis)
            elif analysis.decision == "rollback":
                self._go_back(event, phase, analysis)
            elif analysis.decision == "promote":
                self._go_on(event, phase, analysis)
        except LedgerConflictError:
            raise
        except Exception:
            self._pauses[key] = moment + _PAUSE
            raise

    def _last_look(self, key: tuple[str, str]) -> Progress | None:
        try:
            return read_progress(self._home, *key)
        except msgspec.DecodeError:  # a power cut left half of it, or it is of another release
            return None

    def _go_on(self, event: Event, phase: Phase, analysis: Analysis) -> None:
        coming = following(phase)
        if coming is not None:
            change = begin(coming, event.state, self._target, _actor(event), _evidence(analysis))
            carry_out(self._ledger, self._target, change)

    def _go_back(self, event: Event, phase: Phase, analysis: Analysis) -> None:
        try:
            self._traffic.rollback(
                event.environment,
                event.model,
                _actor(event),
                analysis.reason,
                expected=event.generation,
                evidence=_evidence(analysis),
            )
        except _NO_WAY_BACK as error:
            if phase.name != "bake":
                raise
            self._give_up(event, phase, analysis, str(error))

    def _give_up(self, event: Event, phase: Phase, analysis: Analysis, why: str) -> None:
        """There is no way back, nor will there be: the release ends where it is, on the record."""
        candidate = find(event.live, phase.candidate)
        if candidate is None:
            return
        evidence = _evidence(analysis) | {"reason": f"{analysis.reason}; it stays: {why}"}
        change = _actor(event).change(event.state, "unhealthy", candidate, event.live, evidence)
        carry_out(self._ledger, self._target, change)

    def _finish(self, event: Event, phase: Phase, analysis: Analysis) -> None:
        """The bake time is over: the version that was replaced leaves."""
        candidate = find(event.live, phase.candidate)
        if candidate is None:
            return
        live = without(event.live, self._kept_for_the_way_back(event, phase))
        change = _actor(event).change(event.state, "healthy", candidate, live, _evidence(analysis))
        carry_out(self._ledger, self._target, change)

    def _kept_for_the_way_back(self, event: Event, phase: Phase) -> str | None:
        """The version that the release left resident; not one that came back by hand meanwhile."""
        if phase.stable is None or find(event.live, phase.stable.label) is None:
            return None
        events = self._ledger.events(event.model, event.environment)
        first = next((item for item in events if item.at == began(phase, event)), event)
        return phase.stable.label if find(first.live, phase.stable.label) else None

    def _wanted_probes(self, releases: list[Event]) -> dict[Key, Event]:
        """The canaries whose policy asks for golden requests."""
        wanted: dict[Key, Event] = {}
        for event in releases:
            with suppress(LedgerError):  # `_follow` tells it
                phase = event.phase
                if phase and phase.name == "canary" and phase.policy.get(_PROBES):
                    wanted[event.environment, event.model] = event
        return wanted


def _actor(event: Event) -> Actor:
    """The controller, for the run that began the release."""
    return Actor(NAME, event.dagster_run)


def _evidence(analysis: Analysis) -> dict[str, Any]:
    return {"reason": analysis.reason, "analysis": msgspec.to_builtins(analysis)}
