"""What the model server is to reach, computed from one run."""

import math
from dataclasses import dataclass

from benchmarks.behaviour import Gateway, Overload, Soak
from benchmarks.catalogue import BENTOML, FASTAPI, OURS, RAW
from benchmarks.matrix import COMPARED_MODELS, Results, Sample
from benchmarks.models import TITLES
from benchmarks.servers import Server

CPU_RATIOS = ((FASTAPI, 0.5), (BENTOML, 0.12), (RAW, 2.0))
P99_RATIO = 0.5
IDLE_RATIO = 1.3
GATEWAY_US = 40.0
GOODPUT_SHARE = 0.8
MEMORY_GROWTH = 1.1


@dataclass(frozen=True)
class Target:
    """value: None where it was not measured. The bound is inclusive."""

    what: str
    value: float | None
    bound: float
    unit: str = "x"
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        """None where nothing was measured; nan is not met."""
        if self.value is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound


def _ratio(ours: Sample | None, theirs: Sample | None, figure: str) -> float | None:
    if ours is None or theirs is None:
        return None
    base: float = getattr(theirs, figure)
    value: float = getattr(ours, figure)
    return value / base if base else math.nan


def _against(
    results: Results, server: Server, model: str, figure: str, connections: int = 64
) -> float | None:
    ours = results.of(OURS, model, connections)
    return _ratio(ours, results.of(server, model, connections), figure)


def ratios(results: Results) -> list[Target]:
    """Ours against the peers."""
    found = []
    for model in COMPARED_MODELS:
        title = TITLES[model]
        for server, bound in CPU_RATIOS:
            value = _against(results, server, model, "cpu_us")
            found.append(Target(f"CPU a request, {title}, to {server.name}", value, bound))
        value = _against(results, FASTAPI, model, "p99_ms")
        found.append(Target(f"p99, {title}, to {FASTAPI.name}", value, P99_RATIO))
        value = _against(results, FASTAPI, model, "p50_ms", connections=1)
        what = f"p50 of one connection, {title}, to {FASTAPI.name}"
        found.append(Target(what, value, IDLE_RATIO))
    return found


def _failed(results: Results) -> float:
    """Of ours, in every closed loop and at half of the peak; refusals count as failures here."""
    closed = sum(
        sample.failed
        for (server, _, _), samples in results.samples.items()
        if server == OURS.name
        for sample in samples
    )
    opened = sum(
        run.failed + run.refused
        for (server, _), run in results.open_loops.items()
        if server == OURS.name
    )
    return closed + opened


def behaviour(
    results: Results, gateway: Gateway, overload: Overload, soak: Soak | None
) -> list[Target]:
    """Failures, the gateway, overload and memory, None where it was left out."""
    found = [
        Target("failed requests up to saturation", _failed(results), 0, ""),
        Target("Envoy's CPU a request", gateway.envoy_us, GATEWAY_US, "µs"),
    ]
    unready = sum(n for status, n in overload.probes.items() if status != 200)
    share = overload.load.goodput / overload.capacity
    found += [
        Target("goodput at 4 x the capacity, to the peak", share, GOODPUT_SHARE, "x", True),
        Target("there, neither answered nor refused", overload.load.failed, 0, ""),
        Target("there, probes of /ready that were not 200", unready, 0, ""),
    ]
    if soak is not None:
        what = f"memory after {soak.seconds} s of full load, to that after {soak.early_seconds} s"
        found.append(Target(what, soak.end_mb / soak.early_mb, MEMORY_GROWTH))
    return found
