"""A place where model servers run, in memory: it keeps what a rollout may rely on, and no more."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from deploy.analysis.agreement import Agreement
from deploy.events import Counters, Live, State
from deploy.gateway.routes import cluster_name
from deploy.ledger import Ledger
from deploy.live import live_clusters
from deploy.release import Release
from deploy.targets.base import Endpoint, TargetError


class Crash(BaseException):
    """The process dies: nothing catches it to tidy up."""


@dataclass
class MemoryTarget:
    """`deploy.targets.base.Target`.

    up: the servers; routed: the clusters that the gateway sends requests to; calls: in order.
    held: how many hold a server; states: what the gateway was told last.
    before, after: called with each call, by its text; they may raise what a real place may.
    """

    ledger: Ledger
    up: dict[str, int] = field(default_factory=dict)
    routed: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    unready: set[str] = field(default_factory=set)
    counted: dict[str, Counters] = field(default_factory=dict)
    agreed: Agreement = field(default_factory=Agreement)
    url: str = "http://127.0.0.1:9"
    held: Counter[str] = field(default_factory=Counter)
    states: dict[tuple[str, str], State] = field(default_factory=dict)
    before: Callable[[str], None] = lambda call: None
    after: Callable[[str], None] = lambda call: None

    def _begin(self, call: str) -> None:
        self.before(call)
        self.calls.append(call)

    def servers(self) -> dict[str, str]:
        return {name: f"127.0.0.1:{port}" for name, port in self.up.items()}

    def start(self, release: Release, environment: str) -> str:
        name = cluster_name(environment, release.model, release.live())
        self._begin(f"start {name}")
        self.up.setdefault(name, 10_000 + len(self.up))
        self.after(f"start {name}")
        return name

    def wait_ready(self, name: str, release: Release, environment: str) -> None:
        self._begin(f"wait_ready {name}")
        if name in self.unready or name not in self.up:
            raise TargetError(f"{name} was not ready")
        self.after(f"wait_ready {name}")

    def ready(self, name: str) -> bool:
        return name in self.up and name not in self.unready

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        self.held[name] += 1
        try:
            yield
        finally:  # also of a process that dies
            self.held[name] -= 1

    def route(self) -> None:
        self._begin("route")
        self.routed = live_clusters(self.ledger)
        self.states = self.ledger.states()
        self.after("route")

    def require_routable(self, state: State) -> None: ...

    def in_step(self) -> bool:
        return self.states == self.ledger.states()

    def drain(self, name: str, environment: str) -> None:
        self._begin(f"drain {name}")
        assert name not in self.routed, "drained while it gets new requests"
        self.after(f"drain {name}")

    def stop(self, name: str) -> None:
        self._begin(f"stop {name}")
        if name not in live_clusters(self.ledger) and not self.held[name]:
            assert name not in self.routed, "stopped while it gets new requests"
            self.up.pop(name, None)
        self.after(f"stop {name}")

    def observe(self, name: str) -> Counters:
        self.before(f"observe {name}")
        if name not in self.up:
            raise TargetError(f"{name} does not answer")
        return self.counted.get(name, Counters())

    def endpoint(self, environment: str, model: str, live: Live | None) -> Endpoint:
        headers = {"X-Environment": environment}
        return Endpoint(self.url, headers | ({"X-Model-Version": live.label} if live else {}))

    def agreement(self, candidate: str, stable: str, since: str, slowdown: float) -> Agreement:
        self.before(f"agreement {candidate}")
        return self.agreed

    def unserved(self) -> set[str]:
        """Clusters that get requests and have no server: each is an outage."""
        return self.routed - set(self.up)
