"""What people see: tables, colour and progress where there is a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.text import Text

# A file or a pipe has no width of its own; at the 80 columns of a small terminal tables would wrap.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def ago(seconds: float) -> str:
    """A duration as people say it: 42 s, 3 min, 5 h, 2 d."""
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    size, unit = next((u for u in units if seconds >= u[0]), (1, "s"))
    return f"{int(seconds // size)} {unit}"


def megabytes(size: int) -> str:
    """Bytes as MB."""
    return f"{size / 1e6:,.0f} MB"


def show_lines(title: str, lines: Sequence[tuple[str, str]]) -> None:
    """A title, then a name and a value on each line, whatever they contain."""
    console.print(Text(title, style="bold"), soft_wrap=True)
    for name, value in lines:
        console.print(Text.assemble((f"  {name:14} ", "dim"), value), soft_wrap=True)


def show_json(value: Any) -> None:
    """For scripts."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


@contextmanager
def step(title: str) -> Iterator[Callable[[str], None]]:
    """A spinner while something takes its time; afterwards one line with how long it took.

    Yields a function that says what is being waited for.
    """
    started = time.monotonic()
    with console.status(title) as status:

        def say(detail: str) -> None:
            status.update(
                f"{title} [dim]({escape(detail)}, {int(time.monotonic() - started)} s)[/]"
            )

        yield say
    elapsed = timedelta(seconds=time.monotonic() - started).total_seconds()
    console.print(f"[green]✓[/] {title} [dim]{elapsed:.1f} s[/]")
