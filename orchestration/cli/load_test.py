"""`slipway load-test`: what a model's version answers, how fast, and under how much load."""

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from orchestration.cli.context import configured_model, local_platform
from orchestration.cli.load_options import check_plot, duration, plan, rate
from orchestration.cli.output import console
from orchestration.cli.status import gateway_url
from orchestration.cli.version_label import VersionLabel
from orchestration.load_test.errors import LoadTestError, RequestsFailedError
from orchestration.load_test.plan import OpenLoop, Plan
from orchestration.load_test.rows import read_rows
from orchestration.load_test.target import Found, Target, ask, target


@click.command("load-test")
@click.argument("model")
@click.option("--environment", help="The platform's default environment if left out.")
@click.option(
    "--version",
    type=VersionLabel(),
    help="A live version, as 3 or 3-int8; what the gateway picks if left out.",
)
@click.option("--connections", type=click.IntRange(1, 1000), default=16, show_default=True)
@click.option(
    "--rate",
    callback=rate,
    metavar="R/s",
    help="Open loop: requests a second, whatever the server does.",
)
@click.option(
    "--delay",
    callback=duration,
    metavar="10s",
    help="Closed loop: pause between answer and request.",
)
@click.option(
    "--duration", callback=duration, metavar="10s", help="10s if --requests is left out, too."
)
@click.option("--requests", type=click.IntRange(1, 1_000_000_000), help="End after so many.")
@click.option("--rows", type=click.IntRange(1, 100_000), default=1, help="In each request.")
@click.option(
    "--warm-up",
    callback=duration,
    metavar="10s",
    default="1s",
    show_default=True,
    help="Not counted.",
)
@click.option("--timeout", callback=duration, metavar="10s", default="10s", help="Of one request.")
@click.option("--key", envvar="SLIPWAY_API_KEY", help="API key; better by SLIPWAY_API_KEY.")
@click.option(
    "--input",
    "input_file",
    type=click.Path(path_type=Path),
    help="Rows as a JSON array or JSON Lines; the contract's example if left out.",
)
@click.option("--url", help="Below which /predict lies, instead of this checkout's gateway.")
@click.option("--plot", type=click.Path(path_type=Path), help="Write FILE.svg or FILE.png.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def load_test(
    model: str,
    environment: str | None,
    version: str | None,
    key: str | None,
    input_file: Path | None,
    rows: int,
    url: str | None,
    plot: Path | None,
    as_json: bool,
    **load: Any,
) -> None:
    """Send load to MODEL and say how it answered. Exits 1 if a request failed.

    Closed loop without --rate: each connection sends when it has its answer. With --rate
    requests are sent at their times, and latency counts from those: a stalled server is seen.
    """
    wanted = plan(**load)
    if plot is not None:
        check_plot(plot)
    given = read_rows(input_file) if input_file is not None else None
    asked = _target(model, url, environment, version, key)
    found = ask(asked, given, rows)
    said = _about(asked, found, wanted, rows)
    if not as_json:
        console.print(_headline(said), soft_wrap=True, markup=False)
    _send(wanted, found, said, plot, as_json)


def _target(
    model: str, url: str | None, environment: str | None, version: str | None, key: str | None
) -> Target:
    """The gateway of this checkout, or an address that needs no checkout."""
    hint = "is --url right?"
    if url is None:
        platform = local_platform()
        configured_model(platform, model)
        environments = platform.configuration.environments
        environment = environment or platform.configuration.platform.default_environment
        if environment not in environments:
            raise LoadTestError(
                f"no environment {environment!r}; environments: {', '.join(sorted(environments))}"
            )
        url = f"{gateway_url(platform)}/models/{model}"
        hint = "`slipway up --detach`"
    return target(model, url, environment=environment, version=version, key=key, start_hint=hint)


def _about(asked: Target, found: Found, wanted: Plan, rows: int) -> dict[str, Any]:
    """What was tested, and how."""
    return {
        "model": asked.model,
        "environment": found.environment,
        "url": str(asked.url),
        "loop": "open" if isinstance(wanted, OpenLoop) else "closed",
        "connections": wanted.connections,
        "planned_rate": wanted.rate if isinstance(wanted, OpenLoop) else None,
        "rows": rows,
    }


def _headline(said: dict[str, Any]) -> str:
    where = f" in {said['environment']}" if said["environment"] else ""
    rate = f", {said['planned_rate']:g} requests/s" if said["planned_rate"] else ""
    rows = "a row" if said["rows"] == 1 else f"{said['rows']} rows"
    return (
        f"{said['model']}{where} at {said['url']}: {said['loop']} loop{rate}, "
        f"{said['connections']} connections, {rows} in each request"
    )


def _send(
    wanted: Plan, found: Found, said: dict[str, Any], plot: Path | None, as_json: bool
) -> None:
    from orchestration.cli.load_display import results, watching
    from orchestration.load_test.loops import run
    from orchestration.load_test.summary import summarise

    display = Console(stderr=True) if as_json else console
    with watching(wanted, display, plain=not as_json) as watch:
        finished = run(wanted, found.address, found.requests, watch)
    summary = summarise(finished)
    if as_json:
        click.echo(json.dumps(said | summary.as_json(), indent=2))
    else:
        scheduled = isinstance(wanted, OpenLoop)
        console.print(results(summary, wanted.connections, scheduled=scheduled))
    if plot is not None:
        from orchestration.load_test.plot import write_plot

        write_plot(plot, finished, _title(said))
        display.print(f"plot: {plot}", soft_wrap=True, markup=False)
    if summary.interrupted:
        raise click.Abort
    if summary.failed or not summary.requests:
        raise RequestsFailedError(summary.failure())


def _title(said: dict[str, Any]) -> str:
    where = f" in {said['environment']}" if said["environment"] else ""
    return f"{said['model']}{where}, {said['loop']} loop, {said['connections']} connections"
