"""Every server on every model under the same load: one sample for each number of connections."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from subprocess import CalledProcessError

from benchmarks import load, servers
from benchmarks.catalogue import BENTOML, FASTAPI, OURS, RAW
from benchmarks.load import LoadError
from benchmarks.models import Model
from benchmarks.report import say
from benchmarks.servers import Running, Server, UnusableError

CONNECTIONS = (64, 16, 1)
# What the targets compare is measured in every round, the rest in the first one only.
COMPARED = (OURS, RAW, FASTAPI, BENTOML)
COMPARED_MODELS = ("lr", "mlp")
_REST_SECONDS = 1


@dataclass(frozen=True)
class Sample:
    """One closed-loop run, or the medians of several. cpu_us: of all its processes, a request."""

    requests: int
    throughput: float
    p50_ms: float
    p99_ms: float
    failed: int
    cpu_us: float
    memory_mb: float


@dataclass
class Results:
    """samples: by server, model and connections; open_loops: by server and model, at half of the
    server's own peak; skipped: server → why."""

    samples: dict[tuple[str, str, int], list[Sample]] = field(default_factory=dict)
    open_loops: dict[tuple[str, str], load.Open] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def add(self, server: Server, model: str, connections: int, sample: Sample) -> None:
        """One more round."""
        self.samples.setdefault((server.name, model, connections), []).append(sample)

    def capacity(self, model: str) -> float:
        """Of ours: what it answers a second at most connections."""
        samples = self.samples[OURS.name, model, CONNECTIONS[0]]
        return median(sample.throughput for sample in samples)

    def of(self, server: Server, model: str, connections: int = 64) -> Sample | None:
        """Medians of the rounds, requests and failures summed; None where nothing was measured."""
        samples = self.samples.get((server.name, model, connections))
        if not samples:
            return None
        return Sample(
            requests=sum(s.requests for s in samples),
            throughput=median(s.throughput for s in samples),
            p50_ms=median(s.p50_ms for s in samples),
            p99_ms=median(s.p99_ms for s in samples),
            failed=sum(s.failed for s in samples),
            cpu_us=median(s.cpu_us for s in samples),
            memory_mb=median(s.memory_mb for s in samples),
        )


def measured(server: Running, connections: int, seconds: int) -> Sample:
    """One closed-loop run and what it cost the server."""
    before = server.processes.cpu_seconds()
    run = load.closed(server.target, connections, seconds)
    used = server.processes.cpu_seconds() - before
    return Sample(
        run.requests,
        run.throughput,
        run.p50_ms,
        run.p99_ms,
        run.failed,
        used / max(1, run.requests) * 1e6,
        server.processes.memory_bytes() / 1e6,
    )


@dataclass(frozen=True)
class Visit:
    """One server with one model in one round, the first of which is the full one."""

    server: Server
    model: Model
    number: int

    def run(self, results: Results, work: Path, seconds: int) -> Sample:
        """Start the server, load it, end it; the sample at most connections."""
        most, *others = CONNECTIONS
        name = self.model.name
        with servers.running(self.server, self.model, work) as up:
            load.closed(up.target, most, _REST_SECONDS)  # warm-up
            loaded = measured(up, most, seconds)
            results.add(self.server, name, most, loaded)
            for connections in others if self.number == 0 else others[-1:]:
                sample = measured(up, connections, _REST_SECONDS)
                results.add(self.server, name, connections, sample)
            if self.number == 0:
                rate = max(1, loaded.throughput / 2)
                opened = load.open_loop(up.target, most, rate, _REST_SECONDS * 2)
                results.open_loops[self.server.name, name] = opened
        return loaded


def visits(chosen: Sequence[Server], models: Sequence[Model], rounds: int) -> Iterator[Visit]:
    """Servers change places from round to round: what a noisy neighbour does hits all of them."""
    for number in range(rounds):
        for model in models:
            for server in chosen if number % 2 == 0 else reversed(chosen):
                compared = server in COMPARED and model.name in COMPARED_MODELS
                if number == 0 or compared:
                    yield Visit(server, model, number)


def run(
    chosen: Sequence[Server], models: Sequence[Model], work: Path, rounds: int, seconds: int
) -> Results:
    """All of it. A peer that is of no use, or breaks, is skipped with its reason; ours must not."""
    results = Results()
    for server in chosen:
        if not server.installed:
            results.skipped[server.name] = "not installed (`make bench-peers`)"
    for visit in visits(chosen, models, rounds):
        server = visit.server
        if server.name in results.skipped:
            continue
        try:
            sample = visit.run(results, work, seconds)
        except (UnusableError, LoadError, CalledProcessError) as error:
            if server is OURS:
                raise
            results.skipped[server.name] = str(error).splitlines()[0]
            say(f"{server.name}: {error}")
            continue
        say(
            f"round {visit.number + 1}/{rounds} {visit.model.name:3} {server.name:22} "
            f"{sample.throughput:7.0f}/s  p99 {sample.p99_ms:6.1f} ms  {sample.cpu_us:6.0f} µs CPU"
        )
    return results
