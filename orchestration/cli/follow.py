"""Following a Dagster run to its end, step by step."""

import time
from collections.abc import Callable

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from deploy.control.progress import Progress
from deploy.dagster_client import FINISHED, DagsterClient, RunStatus, Step
from orchestration.cli.output import console
from orchestration.release_progress import Reporter, sentence

_POLL_SECONDS = 0.3
_MARKS = {
    "SUCCESS": "[green]✓[/]",
    "FAILURE": "[red]✗[/]",
    "IN_PROGRESS": "[yellow]▸[/]",
    "SKIPPED": "[dim]·[/]",
}


class RunFailedError(RuntimeError):
    """A run did not succeed; the message is its first error and where to read more."""


def title(step: Step) -> str:
    """`iris__onnx_model_conversion_parity` → `conversion_parity (check)`, as people say it."""
    name = step.key.rpartition("__")[2]
    for asset in ("onnx_model", "staging_deployment", "production_deployment"):
        if name.startswith(f"{asset}_"):
            return name.removeprefix(f"{asset}_") + " (check)"
    return name


def render(runs: list[RunStatus], now: float) -> Table:
    """All steps of some runs, with their times."""
    table = Table.grid(padding=(0, 2))
    for run in runs:
        if not run.steps and run.status not in FINISHED:
            table.add_row(_MARKS["IN_PROGRESS"], f"{run.job} is {run.status.lower()}", "")
        for step in run.steps:
            seconds = step.seconds
            if seconds is None and step.started:
                seconds = now - step.started
            elapsed = f"[dim]{seconds:5.1f} s[/]" if seconds is not None else ""
            table.add_row(_MARKS.get(step.status, "[dim]·[/]"), escape(title(step)), elapsed)
    return table


Look = Callable[[], Progress | None]


def follow(dagster: DagsterClient, run_id: str, look: Look = lambda: None) -> RunStatus:
    """Until the run has ended; RunFailedError unless it succeeded.

    look: how far the release is that the run follows. A terminal shows it under the steps, in
    anything else it is a line now and then.
    """
    console.print(f"[dim]{dagster.url}/runs/{run_id}[/]", soft_wrap=True)
    lines = Reporter(lambda text: console.print(text, soft_wrap=True, markup=False))
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        while (run := dagster.run(run_id)).status not in FINISHED:
            progress = look()
            live.update(with_progress(render([run], time.time()), progress))
            if not console.is_terminal:
                lines.look(progress, time.monotonic())
            time.sleep(_POLL_SECONDS)
    console.print(render([run], time.time()))
    require_success(dagster, run)
    return run


def wait(dagster: DagsterClient, run_id: str) -> RunStatus:
    """As `follow`, without a word."""
    while (run := dagster.run(run_id)).status not in FINISHED:
        time.sleep(_POLL_SECONDS)
    require_success(dagster, run)
    return run


def with_progress(steps: Table, progress: Progress | None) -> Group:
    """The steps, and below them how far the release in progress is."""
    return Group(steps, f"  [yellow]▸[/] {escape(sentence(progress))}" if progress else "")


def require_success(dagster: DagsterClient, run: RunStatus) -> None:
    """Raise RunFailedError for a run that failed or was cancelled."""
    if run.status != "SUCCESS":
        reason = run.error or dagster.run(run.run_id).error or run.status.lower()
        raise RunFailedError(f"{run.job}: {reason} ({dagster.url}/runs/{run.run_id})")
