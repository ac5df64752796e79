"""What a batch job shows while it runs, and its result as a table."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from orchestration.batch.documents import Manifest
from orchestration.batch.progress import JobProgress
from orchestration.batch.rate import rows_per_second
from orchestration.cli.output import megabytes

_PLAIN_SECONDS = 5.0
_MAX_REASONS = 5


class Display:
    """A bar on a terminal, a line now and then elsewhere; `watch` is called after each part."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._first: JobProgress | None = None
        self._last: JobProgress | None = None
        self._said = 0.0
        self._bar = Progress(
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            refresh_per_second=4,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("looks at the input", total=None)

    def watch(self, now: JobProgress) -> None:
        """Show it."""
        if self._first is None:
            self._first = now
            if now.resumed_parts:
                self._console.print(
                    f"parts that were done before: {now.resumed_parts:,} of {now.parts:,}"
                )
        self._last = now
        done, total = now.rows_in, now.rows_total
        if total is None:  # CSV: only the parts are known
            done, total = now.parts_done, now.parts
        line = brief(now, self._first)
        self._bar.update(self._task, completed=done, total=total, description=line)
        if not self._console.is_terminal and monotonic() - self._said > _PLAIN_SECONDS:
            self._said = monotonic()
            self._console.print(state(now, self._first), soft_wrap=True)

    def start(self) -> None:
        """Draw the bar."""
        self._bar.start()

    def stop(self) -> None:
        """Remove the bar."""
        self._bar.stop()

    def interrupted(self) -> str:
        """For whoever pressed Ctrl-C."""
        if self._last is None:
            return "interrupted before a row was scored: run it again"
        done = f"{self._last.parts_done:,} of {self._last.parts:,} parts"
        return f"interrupted after {done}: run it again to continue"


@contextmanager
def watching(console: Console, *, quiet: bool) -> Iterator[Display]:
    """Meanwhile the state is shown. quiet: nothing at all, for scripts."""
    display = Display(Console(quiet=True) if quiet else console)
    display.start()
    try:
        yield display
    finally:
        display.stop()


def brief(now: JobProgress, first: JobProgress) -> str:
    """Beside a bar, which says how much of all it is: rows, rate, rejects."""
    said = [f"{now.rows_in:,} rows", f"{rows_per_second(now, first):,.0f} rows/s"]
    return "  ".join([*said, *([f"{now.rejects:,} rejects"] if now.rejects else [])])


def state(now: JobProgress, first: JobProgress) -> str:
    """One line: rows, rate, parts, rejects."""
    rows = f"{now.rows_in:,}" + (f" of {now.rows_total:,}" if now.rows_total is not None else "")
    rate = rows_per_second(now, first)
    parts = [f"{rows} rows", f"{rate:,.0f} rows/s", f"{now.parts_done:,} of {now.parts:,} parts"]
    return "  ".join([*parts, *([f"{now.rejects:,} rejects"] if now.rejects else [])])


def summary(manifest: Manifest) -> Table:
    """The result for people."""
    model, files = manifest.model, (*manifest.files, *manifest.rejects_files)
    table = Table.grid(padding=(0, 3))
    table.add_column(style="bold")
    table.add_column(overflow="fold")

    def add(name: str, value: str, style: str = "") -> None:
        table.add_row(name, Text(value, style=style))

    add("model", f"{model.model} version {model.version}  {model.onnx_sha256[:12]}")
    add("rows", f"{manifest.rows_in:,} in, {manifest.rows_out:,} scored")
    add("rejects", f"{manifest.rejects:,}", "yellow" if manifest.rejects else "")
    common = sorted(manifest.reasons.items(), key=lambda item: -item[1])
    for reason, rows in common[:_MAX_REASONS]:
        add("", f"{rows:,}  {reason}", "dim")
    if len(common) > _MAX_REASONS:
        add("", f"and {len(common) - _MAX_REASONS} other reasons: see _rejects/", "dim")
    took = f"{manifest.seconds:,.1f} s on {manifest.engine}"
    if manifest.resumed_parts:
        add("took", f"{took}, without what was done before")
    else:
        rate = manifest.rows_in / manifest.seconds if manifest.seconds else 0.0
        add("took", f"{took}: {rate:,.0f} rows/s")
    size = sum(file.size for file in files)
    add("output", f"{manifest.output}  {len(files):,} files, {megabytes(size)}")
    add("manifest", f"{manifest.output.rstrip('/')}/_manifest.json")
    return table
