"""`slipway batch-predict`: a table scored in this process, whether the platform runs or not."""

import os
import sys
from typing import Literal

import click

from orchestration.cli.context import configured_model, existing_ledger, local_platform
from orchestration.cli.output import console, show_json
from orchestration.cli.traffic import actor
from orchestration.cli.version_label import VersionLabel

_INTERRUPTED = 130


class Columns(click.ParamType[tuple[str, ...]]):
    """`a,b`; nothing for no column at all."""

    name = "columns"

    def convert(
        self,
        value: str | tuple[str, ...],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[str, ...]:
        """See click.ParamType."""
        if isinstance(value, tuple):
            return value
        names = tuple(name.strip() for name in value.split(",")) if value.strip() else ()
        if "" in names or len(set(names)) < len(names):
            self.fail(f"{value!r} has an empty name, or one twice: write a,b", param, ctx)
        return names


@click.command("batch-predict")
@click.argument("model")
@click.option(
    "--input",
    "source",
    required=True,
    help="A file, a folder or a pattern, Parquet, CSV or Arrow: a path, or the URL of an object "
    "storage.",
)
@click.option("--output", required=True, help="The folder that appears when all is done.")
@click.option(
    "--version",
    type=VersionLabel(),
    help="As 3 or 3-int8; the one with the most traffic if left out.",
)
@click.option("--environment", default="production", show_default=True, help="Whose traffic.")
@click.option(
    "--keys",
    type=Columns(),
    help="The columns that the output keeps, as in id,day; all that are no inputs if left out.",
)
@click.option(
    "--timestamp",
    help="The column with the moment for which features are looked up; the model's "
    "`batch.timestamp` if left out.",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    help="This machine's cores, or Ray (RAY_ADDRESS); the model's `batch.engine` if left out.",
)
@click.option("--overwrite", is_flag=True, help="Replace a result that is there.")
@click.option("--json", "as_json", is_flag=True, help="The manifest, for scripts.")
def batch_predict(
    model: str,
    source: str,
    output: str,
    version: str | None,
    environment: str,
    keys: tuple[str, ...] | None,
    timestamp: str | None,
    engine: Literal["local", "ray"] | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Score a table of any size by a verified version of MODEL.

    The output appears when all of it is done. Stopped at any moment, the same command goes on
    where it was.
    """
    platform = local_platform()
    settings = configured_model(platform, model).batch
    existing_ledger(platform).close()  # says what to do where nothing was released yet
    from orchestration.batch.job import JobRequest, run_job
    from orchestration.cli.batch_display import summary, watching

    request = JobRequest(
        model=model,
        input=_absolute(source),
        output=_absolute(output),
        version=version,
        environment=environment,
        keys=keys if keys is not None else settings.keys,
        timestamp=timestamp or settings.timestamp,
        engine=engine or settings.engine,
        overwrite=overwrite,
        actor=actor(),
    )
    with watching(console, quiet=as_json) as display:
        try:
            manifest = run_job(platform.home, platform.configuration, request, display.watch)
        except KeyboardInterrupt:
            display.stop()
            click.echo(f"slipway: {display.interrupted()}", err=True)
            sys.exit(_INTERRUPTED)
    if as_json:
        show_json(manifest)
    else:
        console.print(summary(manifest))


def _absolute(location: str) -> str:
    """What the manifest says holds from wherever it is read."""
    return location if "://" in location else os.path.abspath(os.path.expanduser(location))
