"""What a load test shows while it runs, and its results as a table."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from orchestration.load_test.generator import Generator
from orchestration.load_test.plan import SECOND, Plan
from orchestration.load_test.recorder import Recorder, succeeded
from orchestration.load_test.summary import Summary

_BAR = 30
# Drawing takes the generator's time: some 0.3 ms each.
_LIVE_SECONDS = 0.5
_PLAIN_SECONDS = 1.0


class Watch:
    """Called by the generator; shows the state and the rate since it was last shown.

    show_every: seconds.
    """

    def __init__(self, plan: Plan, console: Console, live: Live | None) -> None:
        self._plan = plan
        self._console = console
        self._live = live
        self.show_every = _LIVE_SECONDS if live else _PLAIN_SECONDS
        self._shown_at = monotonic()
        self._shown = 0

    def __call__(self, generator: Generator) -> None:
        """Show the state if it is time."""
        now = monotonic()
        if now - self._shown_at < self.show_every:
            return
        finished = generator.recorder.finished
        rate = (finished - self._shown) / (now - self._shown_at)
        self._shown_at, self._shown = now, finished
        line = state(generator, self._plan, rate)
        if self._live is None:
            self._console.print(line, soft_wrap=True)
        else:
            bar = progress_bar(progress(generator, self._plan))
            self._live.update(f"{bar}\n{line}", refresh=True)


@contextmanager
def watching(plan: Plan, console: Console, *, plain: bool) -> Iterator[Watch]:
    """A live display on a terminal. plain: lines where there is none; else nothing there."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            yield Watch(plan, console, live)
    else:
        yield Watch(plan, console if plain else Console(quiet=True), None)


def progress(generator: Generator, plan: Plan) -> float:
    """The share that is done, of the time or of the requests, whichever is more."""
    shares = [0.0]
    if plan.end is not None:
        shares.append(generator.elapsed / plan.end)
    if plan.requests is not None:
        shares.append(generator.recorder.finished / plan.requests)
    return min(1.0, max(shares))


def progress_bar(share: float) -> str:
    """A bar with its percentage."""
    full = round(share * _BAR)
    return f"[green]{'━' * full}[/][dim]{'━' * (_BAR - full)}[/] {share:4.0%}"


def state(generator: Generator, plan: Plan, rate: float) -> str:
    """One line: time, rate, in flight, latency, errors."""
    recorder = generator.recorder
    seconds = (generator.elapsed - plan.counted_from) / SECOND
    if seconds < 0:
        return f"warm-up, {-seconds:.1f} s left"
    p50, p99 = (value / 1e6 for value in recorder.latency.percentiles([50, 99]))
    latency = f"p50 {p50:.2f} ms  p99 {p99:.2f} ms" if recorder.latency.count else "no answer yet"
    parts = [f"{seconds:.1f} s", f"{rate:,.0f} requests/s", f"{generator.in_flight} in flight"]
    if generator.overdue:
        parts.append(f"[yellow]{generator.overdue:,} overdue[/]")
    return "  ".join([*parts, latency, _errors(recorder)]).rstrip()


def _errors(recorder: Recorder) -> str:
    found = [f"{s}: {n:,}" for s, n in recorder.statuses.items() if not succeeded(s)]
    found += [f"{kind}: {n:,}" for kind, n in recorder.errors.items()]
    return f"[red]{escape(', '.join(found))}[/]" if found else ""


def results(summary: Summary, connections: int, *, scheduled: bool) -> Table:
    """The summary for people. scheduled: an open loop, in which requests may have waited."""
    table = Table.grid(padding=(0, 3))
    table.add_column(style="bold")
    table.add_column()
    took = f"{summary.requests:,} in {summary.seconds:.2f} s: {summary.rate:,.1f}/s"
    table.add_row("requests", f"{took}, {connections} connections")
    traffic = f"{_size(summary.bytes_sent)} sent, {_size(summary.bytes_received)} received"
    table.add_row("traffic", traffic)
    table.add_row("latency, ms", _row(summary.latency_ms))
    if scheduled:
        table.add_row("of it waiting, ms", _row(summary.waited_ms))
    table.add_row("statuses", _counts(summary.statuses) or "none")
    if summary.shed:
        table.add_row("shed (429, 503)", f"[red]{summary.shed:,}[/]")
    if summary.errors:
        table.add_row("errors", f"[red]{_counts(summary.errors)}[/]")
    if summary.unsent:
        table.add_row("never sent", f"[red]{summary.unsent:,}[/]")
    table.add_row("model versions", _counts(summary.versions) or "none")
    return table


def _row(values: dict[str, float]) -> Table:
    table = Table(*values, box=None, header_style="dim", padding=(0, 1))
    table.add_row(*map(_figures, values.values()))
    return table


def _figures(value: float) -> str:
    """Some four figures, whatever the size."""
    if math.isnan(value):
        return "-"
    digits = 3 if value < 10 else 2 if value < 100 else 1 if value < 1000 else 0
    return f"{value:.{digits}f}"


def _counts(counts: dict[int, int] | dict[str, int]) -> str:
    return escape(", ".join(f"{name}: {number:,}" for name, number in counts.items()))


def _size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size / 1e3:,.1f} kB"
