"""`slipway compare`: two versions or variants of a model side by side."""

from contextlib import nullcontext

import click
import msgspec
from rich.table import Table
from rich.text import Text

from orchestration.cli.context import configured_model, local_platform
from orchestration.cli.output import console, show_json, step
from orchestration.cli.version_label import VersionLabel
from orchestration.compare.documents import Comparison


@click.command()
@click.argument("model")
@click.argument("a", type=VersionLabel())
@click.argument("b", type=VersionLabel())
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def compare(model: str, a: str, b: str, as_json: bool) -> None:
    """Hold versions A and B of MODEL side by side: quality, agreement, size and speed.

    A and B are built versions or variants, as 3 or 3-int8. The platform need not be up.
    """
    from orchestration.compare.comparison import compare as run
    from orchestration.compare.page import write_page

    platform = local_platform()
    settings = configured_model(platform, model)
    waiting = nullcontext() if as_json else step(f"{model} {a} and {b} are compared")
    with waiting:
        found = run(platform, settings.name, a, b)
        page = write_page(platform.home.reports / "compare", found.result, found.scores)
    if as_json:
        show_json(msgspec.to_builtins(found.result) | {"page": str(page)})
    else:
        show(found.result)
        console.print(Text(str(page), style="dim"), soft_wrap=True)


def show(found: Comparison) -> None:
    """A table, and what it is of."""
    from orchestration.compare.figures import heads, lines
    from orchestration.compare.page import about

    table = Table(box=None, header_style="dim", padding=(0, 3, 0, 0))
    for name in heads(found):
        table.add_column(name, justify="right" if name else "left")
    for line in lines(found):
        table.add_row(*line)
    console.print(table)
    console.print(about(found), markup=False, soft_wrap=True)
