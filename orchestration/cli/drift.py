"""`slipway drift`: look now at whether live traffic is another than the model was trained on."""

import re
import sys

import click
from rich.table import Table
from rich.text import Text

from deploy.dagster_client import DagsterClient
from deploy.dagster_names import ACTOR_TAG, WINDOW_TAG, monitoring_job
from deploy.drift_result import DriftReport, read_drift_report
from deploy.findings import FindingsError
from deploy.platform import LocalPlatform
from orchestration.cli.context import configured_model, local_platform, require_up
from orchestration.cli.follow import follow, wait
from orchestration.cli.output import console, show_json
from orchestration.cli.status import dagster_url
from orchestration.cli.traffic import actor

NOT_ENOUGH_DATA = 3
_EXIT = {"passed": 0, "failed": 1, "not_enough_data": NOT_ENOUGH_DATA}
_HOURS = {"m": 1 / 60, "h": 1.0, "d": 24.0}
_LONGEST = 8760.0


class Window(click.ParamType[float]):
    """`30m`, `24h` or `7d`, as hours."""

    name = "window"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """At most a year."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d{1,5})([mhd])", value)
        hours = int(found[1]) * _HOURS[found[2]] if found else 0.0
        if not 0 < hours <= _LONGEST:
            self.fail(f"{value!r} is no length of time up to a year: 30m, 24h, 7d", param, ctx)
        return hours


@click.command()
@click.argument("model")
@click.option("--environment", default="production", show_default=True)
@click.option("--window", type=Window(), help="30m, 24h, 7d; the model's `drift.window_hours`.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
def drift(model: str, environment: str, window: float | None, as_json: bool) -> None:
    """Compare MODEL's live traffic with what it was trained on.

    Exits with 0 where the check passed, 1 where it failed, 3 where there was not enough data for
    either.
    """
    platform = local_platform()
    settings = configured_model(platform, model)
    if environment not in platform.configuration.environments:
        known = ", ".join(sorted(platform.configuration.environments))
        raise click.BadParameter(f"no environment {environment!r}; environments: {known}")
    require_up(platform)
    dagster = DagsterClient(dagster_url(platform))
    tags = {ACTOR_TAG: actor()} | ({WINDOW_TAG: f"{window:g}"} if window else {})
    run_id = dagster.launch(monitoring_job(settings.name, "drift"), environment, tags)
    if as_json:
        wait(dagster, run_id)
    else:
        follow(dagster, run_id)
    report = read_drift_report(platform.home, environment, model)
    if report is None:
        raise FindingsError(f"the run {run_id} left no report of {model} in {environment}")
    if as_json:
        show_json(report)
    else:
        show(report, _link(platform, model, environment))
    sys.exit(_EXIT[report.result.verdict])


def _link(platform: LocalPlatform, model: str, environment: str) -> str:
    gateway = platform.configuration.platform.gateway.url
    return f"{gateway}/v1/drift/{model}/report?environment={environment}"


def show(report: DriftReport, link: str) -> None:
    """Verdict, columns, notes, and where the page is."""
    result, finding = report.result, report.finding
    colour = {"passed": "green", "failed": "red", "not_enough_data": "yellow"}[result.verdict]
    verdict = result.verdict.replace("_", " ")
    about = f"{finding.subject} {finding.version} in {finding.environment}: ".replace("  ", " ")
    console.print(Text.assemble(about, (verdict, f"bold {colour}")))
    console.print(result.reason, markup=False, soft_wrap=True)
    if result.share is not None:
        console.print(_table(report))
    for note in result.notes:
        console.print(f"{note.severity}: {note.column} {note.message}", markup=False)
    for label, rows in report.others.items():
        console.print(f"version {label} answered {rows} more: not compared", markup=False)
    console.print(Text(f"{result.rows} rows, {finding.window}", style="dim"))
    console.print(Text(link, style="dim"), soft_wrap=True)


def _table(report: DriftReport) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for name in ("column", "kind", "score", "limit", ""):
        table.add_column(name, justify="right" if name in ("score", "limit") else "left")
    prediction = report.result.prediction
    for column in (*report.result.columns, *((prediction,) if prediction else ())):
        score = "-" if column.score is None else f"{column.score:.3f}"
        drifted = Text(
            f"drifted{f' ({column.statistic})' if column.statistic else ''}", style="red"
        )
        table.add_row(
            Text(column.name),
            column.kind,
            score,
            f"{column.limit:.3f}",
            drifted if column.drifted else Text(),
        )
    return table
