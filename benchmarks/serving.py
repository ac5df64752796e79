"""The model server and its peers: `python -m benchmarks.serving` writes docs/benchmarks.md.

Whatever is installed is measured; `make bench-peers` makes the peers' environments.
"""

import argparse
import os
import shlex
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import behaviour, load, matrix, report, servers, tables, targets
from benchmarks.catalogue import OURS, SERVERS
from benchmarks.matrix import Results
from benchmarks.models import TITLES, Model, train
from benchmarks.report import say
from benchmarks.servers import Server

PLOT = report.RESULT.with_suffix(".svg")


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of what the targets compare")
    parser.add_argument("--seconds", type=int, default=2, help="of a run at 64 connections")
    parser.add_argument("--soak", type=int, default=60, help="seconds of full load; 0: none")
    parser.add_argument("--overload-connections", type=int, default=2048)
    parser.add_argument("--models", nargs="+", choices=TITLES, default=list(TITLES))
    parser.add_argument("--only", nargs="+", metavar="SERVER", help="names, besides Slipway")
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    return parser.parse_args()


def choose(only: list[str] | None) -> list[Server]:
    """Ours, and those named; exits where a name is unknown."""
    known = {server.name.lower(): server for server in SERVERS}
    if unknown := [name for name in only or () if name.lower() not in known]:
        sys.exit(f"no such server: {', '.join(unknown)}; servers: {', '.join(known)}")
    wanted = {name.lower() for name in only} | {OURS.name.lower()} if only else set(known)
    return [server for name, server in known.items() if name in wanted]


def measure(
    wanted: argparse.Namespace, chosen: list[Server], models: dict[str, Model], work: Path
) -> list[str]:
    """The section's lines; writes the plot."""
    before = os.getloadavg()[0]
    results = matrix.run(chosen, list(models.values()), work, wanted.rounds, wanted.seconds)
    # The lightest model for what every request costs, the heaviest where more is offered than a
    # load generator on the same machine could send to the lightest.
    light, heavy = (models[name] for name in (wanted.models[0], wanted.models[-1]))
    gateway = behaviour.gateway(light, work, wanted.seconds)
    say(f"gateway: {gateway.envoy_us:.0f} µs of Envoy's CPU")
    overload = behaviour.overload(
        heavy,
        work,
        results.capacity(heavy.name),
        wanted.overload_connections,
        5 * wanted.seconds,
    )
    say(f"overload: {overload.load.goodput:.0f}/s of {overload.capacity:.0f}/s")
    soak = behaviour.soak(light, work, wanted.soak) if wanted.soak else None
    found = targets.ratios(results)
    found += targets.behaviour(results, gateway, overload, soak)
    if not wanted.dry:
        PLOT.write_text(tables.cpu_plot(results, chosen), encoding="utf-8")
    lines = [*_header(before, wanted), "", *tables.target_table(found), ""]
    lines += [f"![CPU a request]({PLOT.name})", ""]
    lines += [*tables.behaviour_lines(gateway, overload, soak), ""]
    lines += _model_sections(results, chosen, models)
    return [*lines, "### Servers", "", *tables.server_lines(results, chosen)]


def _header(load_before: float, wanted: argparse.Namespace) -> list[str]:
    command = shlex.join(["python", "-m", "benchmarks.serving", *sys.argv[1:]])
    return [
        f"`{command}` on {report.hardware()}; load average {load_before:.1f} before the run; "
        f"{datetime.now(UTC):%Y-%m-%d}. " + tables.rounds_line(wanted.rounds, wanted.seconds),
    ]


def _model_sections(results: Results, chosen: list[Server], models: dict[str, Model]) -> list[str]:
    lines = []
    for name in models:
        lines += [f"### {TITLES[name].capitalize()}", ""]
        lines += [*tables.closed_table(results, chosen, name), ""]
        lines += ["Open loop, at half of each server's own peak, 64 connections:", ""]
        lines += [*tables.open_table(results, chosen, name), ""]
    return lines


def main() -> None:
    """Measure, then write."""
    wanted = options()
    if missing := load.missing_tool():
        sys.exit(missing)
    chosen = choose(wanted.only)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that it clears up
    # Short: some servers put UNIX sockets below it.
    work = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        say("training the models")
        models = {name: model for name, model in train(work).items() if name in wanted.models}
        lines = measure(wanted, chosen, models, work)
    finally:
        servers.clear(work)
    if wanted.dry:
        print("\n".join(lines))
    else:
        report.write("Serving", lines)


if __name__ == "__main__":
    main()
