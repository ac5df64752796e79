"""The results of a serving run as markdown."""

import math
from collections.abc import Iterable, Mapping, Sequence

from benchmarks import plot, targets
from benchmarks.behaviour import Gateway, Overload, Soak
from benchmarks.catalogue import OURS
from benchmarks.matrix import COMPARED, CONNECTIONS, Results
from benchmarks.models import TITLES
from benchmarks.report import table
from benchmarks.servers import Server


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _with_unit(value: float, unit: str) -> str:
    return f"{_number(value)} {unit}" if unit else f"{value:g}"


def _counts(statuses: Mapping[int, int]) -> str:
    return ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))


def target_table(found: Iterable[targets.Target]) -> list[str]:
    """Each target, what was measured, and whether it is met."""
    rows = []
    for target in found:
        sign = "≥" if target.at_least else "≤"
        said = {True: "yes", False: "**no**", None: ""}[target.met]
        value = "not measured" if target.value is None else _with_unit(target.value, target.unit)
        bound = f"{sign} {_with_unit(target.bound, target.unit)}"
        rows.append((target.what, value, bound, said))
    return table(("what", "measured", "target", "met"), rows)


def closed_table(results: Results, chosen: Sequence[Server], model: str) -> list[str]:
    """One model under the closed loop."""
    rows = []
    for server in chosen:
        for connections in sorted(CONNECTIONS):
            sample = results.of(server, model, connections)
            if sample is None:
                continue
            figures = (sample.throughput, sample.p50_ms, sample.p99_ms)
            rows.append(
                (
                    server.name,
                    str(connections),
                    *map(_number, figures),
                    str(sample.failed),
                    _number(sample.cpu_us),
                    _number(sample.memory_mb),
                )
            )
    return table(
        ("server", "connections", "good/s", "p50 ms", "p99 ms", "failed", "CPU µs", "MB"), rows
    )


def open_table(results: Results, chosen: Sequence[Server], model: str) -> list[str]:
    """One model under the open loop."""
    rows = [
        (
            server.name,
            *map(_number, (run.offered, run.sent, run.p50_ms, run.p99_ms)),
            str(run.failed + run.refused),
        )
        for server in chosen
        if (run := results.open_loops.get((server.name, model))) is not None
    ]
    return table(("server", "offered/s", "sent/s", "p50 ms", "p99 ms", "not answered"), rows)


def behaviour_lines(gateway: Gateway, overload: Overload, soak: Soak | None) -> list[str]:
    """The figures behind the targets that are not ratios to a peer."""
    direct, behind, run = gateway.direct, gateway.behind, overload.load
    lines = [
        f"- Gateway, {TITLES[gateway.model]}, 64 connections: directly "
        f"{_number(direct.throughput)}/s with p99 "
        f"{_number(direct.p99_ms)} ms and {_number(direct.cpu_us)} µs of the server's CPU a "
        f"request; behind Envoy {_number(behind.throughput)}/s, {_number(behind.p99_ms)} ms, "
        f"{_number(behind.cpu_us)} µs, and {_number(gateway.envoy_us)} µs of Envoy's; "
        f"{behind.failed} failed.",
        f"- Overload, {TITLES[overload.model]}: {_number(run.offered)}/s offered on "
        f"{overload.connections} connections "
        f"(capacity {_number(overload.capacity)}/s), {_number(run.sent)}/s sent (the rest found "
        f"no free connection), {_number(run.goodput)}/s answered with p99 {_number(run.p99_ms)} "
        f"ms, {run.refused} refused with p99 {_number(run.refused_p99_ms)} ms; "
        f"{_number(overload.cpu_us)} µs of the server's CPU each; by status "
        f"{_counts(run.statuses)}; /ready by status {_counts(overload.probes)}.",
    ]
    if soak is not None:
        lines.append(
            f"- {soak.seconds} s of full load, {TITLES[soak.model]}: {_number(soak.early_mb)} MB "
            f"after {soak.early_seconds} s, {_number(soak.end_mb)} MB at the end; "
            f"{soak.failed} failed."
        )
    return lines


def server_lines(results: Results, chosen: Sequence[Server]) -> list[str]:
    """What each server was, or why there are no figures of it."""
    return [
        f"- {server.name}: {reason}"
        if (reason := results.skipped.get(server.name))
        else f"- {server.name} ({server.distribution} {server.version}): {server.note}"
        for server in chosen
    ]


def cpu_plot(results: Results, chosen: Sequence[Server]) -> str:
    """CPU a request at 64 connections, as SVG."""
    groups = [
        (
            title,
            [
                (server.name, sample.cpu_us)
                for server in chosen
                if (sample := results.of(server, model)) is not None
            ],
        )
        for model, title in TITLES.items()
    ]
    shown = [(title, rows) for title, rows in groups if rows]
    return plot.bars("CPU a request at 64 connections, µs (log scale)", shown, OURS.name)


def rounds_line(rounds: int, seconds: int) -> str:
    """How the figures came about."""
    compared = ", ".join(server.name for server in COMPARED)
    return (
        f"Closed loop by h2load, {seconds} s at 64 connections and 1 s at 16 and 1 after 1 s of "
        f"warm-up; {compared}: medians of {rounds} rounds in changing order, the others one. One "
        "server at a time, one worker, one ONNX Runtime thread, one row of 30 floats a request. "
        "CPU and memory (RSS) are of all processes of the server. Before each load the answer is "
        "compared with scikit-learn's; nothing is cached."
    )
