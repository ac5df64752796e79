"""`slipway predictions`, `slipway labels`, `slipway compact`: the prediction log from a shell.

They work on the home's files, whether the platform runs or not.
"""

import getpass
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from deploy.platform import LocalPlatform
from deploy.predictions.compaction import Compacted, compact, compact_labels
from deploy.predictions.drop import DEFAULT_ENVIRONMENT
from deploy.predictions.label_tables import read_label_table
from deploy.predictions.labels import append_labels, predicts_numbers
from deploy.predictions.overview import Overview, overview
from deploy.predictions.reader import read_predictions
from deploy.predictions.retention import remove_expired
from orchestration.cli.context import configured_model, local_platform
from orchestration.cli.ledger import Moment
from orchestration.cli.output import console, megabytes, show_json
from orchestration.cli.version_label import VersionLabel

_MAX_CELL = 32
_MAX_COLUMNS = 6
_TIME = "as --at of `slipway ledger`: a time, a date, or how long ago (90s, 5min, 2h, 3d)"


class UnknownEnvironmentError(ValueError):
    """No settings name this environment."""


class LabelsFileError(ValueError):
    """A file that cannot be read as labels."""


def _environment(platform: LocalPlatform, name: str | None) -> str:
    found = name or DEFAULT_ENVIRONMENT
    known = platform.configuration.environments
    if found not in known:
        raise UnknownEnvironmentError(
            f"no environment {found!r}; environments: {', '.join(sorted(known))}"
        )
    return found


@click.command()
@click.argument("model")
@click.option("--environment", help="production if left out.")
@click.option("--since", type=Moment(), default="1h", help=f"{_TIME}; 1h if left out.")
@click.option("--until", type=Moment(), help="The same; now if left out.")
@click.option(
    "--version", "label", type=VersionLabel(), help="Answers of that version: 3, v3 or 3-int8."
)
@click.option("--status", type=int, help="Answers with that HTTP status.")
@click.option(
    "--source",
    type=click.Choice(["client", "mirror", "probe"]),
    default="client",
    show_default=True,
    help="Whose requests.",
)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Rows shown.")
@click.option(
    "--json", "as_json", is_flag=True, help="For scripts: the last rows, the newest last."
)
@click.option(
    "--parquet", type=click.Path(dir_okay=False, path_type=Path), help="Write all rows to a file."
)
def predictions(
    model: str,
    environment: str | None,
    since: datetime,
    until: datetime | None,
    label: str | None,
    status: int | None,
    source: Any,
    limit: int,
    as_json: bool,
    parquet: Path | None,
) -> None:
    """What MODEL answered, from the prediction log."""
    platform = local_platform()
    configured_model(platform, model)
    where = (
        platform.home,
        platform.configuration,
        model,
        _environment(platform, environment),
        since,
        until,
    )
    which: dict[str, Any] = {
        "sources": (source,),
        "label": label,
        "status": status,
    }
    if parquet is not None:
        _write(read_predictions(*where, **which), parquet)
    if as_json:
        show_json(overview(*where, limit, **which).last.to_pylist())
    elif parquet is None:
        _show(overview(*where, limit, **which))


def _write(table: Any, path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, path, compression="zstd")
    console.print(f"{table.num_rows:,} rows in {path}", markup=False, soft_wrap=True)


def _show(found: Overview) -> None:
    if not found.rows:
        console.print("no answer was logged in that time")
        return
    names = found.last.column_names
    features = [name for name in names if name.startswith("feature_")]
    shown = ["time", "request_id", "row", "label", "status", "latency_ms", "prediction"]
    shown += features[:_MAX_COLUMNS]
    out = Table(box=None, header_style="dim")
    for name in shown:
        out.add_column(Text(name.removeprefix("feature_")), no_wrap=True)
    for row in found.last.select(shown).to_pylist():
        out.add_row(*(Text(_cell(row[name])) for name in shown))
    console.print(out)
    if (more := len(features) - _MAX_COLUMNS) > 0:
        console.print(f"[dim]{more} more inputs: --json or --parquet FILE[/]")
    console.print(Text(_counts(found), style="dim"), soft_wrap=True)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value.astimezone():%Y-%m-%d %H:%M:%S.%f}"[:-3]
    text = f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= _MAX_CELL else f"{text[: _MAX_CELL - 1]}…"


def _counts(found: Overview) -> str:
    """How many rows and requests, and of which versions, statuses and predictions."""
    parts = [f"{found.rows:,} rows of {found.requests:,} requests"]
    for title, counter in (
        ("version", found.versions),
        ("status", found.statuses),
        ("prediction", found.predictions),
    ):
        if counter:
            counted = ", ".join(f"{value}: {count:,}" for value, count in counter.most_common(5))
            parts.append(f"{title} {counted}")
    return "; ".join(parts)


@click.command()
@click.argument("model")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--environment", help="production if left out.")
def labels(model: str, file: Path, environment: str | None) -> None:
    """Take in what turned out to be true of MODEL's answers, from FILE (.parquet or .csv).

    Columns: request_id, label and, for answers with several rows, row. All of it counts at once,
    or nothing if a row is wrong. The latest label of a row counts: the same file again is no harm.
    """
    platform = local_platform()
    configured_model(platform, model)
    place = _environment(platform, environment)
    numbers = predicts_numbers(platform.home, model)
    found = read_label_table(_label_table(file, numbers=numbers), numbers=numbers)
    actor = os.environ.get("USER") or getpass.getuser()
    append_labels(platform.home, model, place, found, actor, datetime.now(UTC))
    console.print(f"[green]✓[/] {len(found):,} labels of {model} in {place}")


def _label_table(file: Path, *, numbers: bool) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow import csv

    try:
        if file.suffix == ".csv":
            kinds = {"request_id": pa.string(), "label": pa.float64() if numbers else pa.string()}
            return csv.read_csv(file, convert_options=csv.ConvertOptions(column_types=kinds))
        return pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        kind = "CSV" if file.suffix == ".csv" else "Parquet"
        raise LabelsFileError(f"{file} is not to be read as {kind}: {error}") from error


@click.command("compact")
@click.option("--retention", is_flag=True, help="Remove what is older than it is to be kept, too.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def compact_now(retention: bool, as_json: bool) -> None:
    """Compact the prediction log and the labels now: complete segments become Parquet files."""
    platform = local_platform()
    settings, now = platform.configuration.platform.predictions, datetime.now(UTC)
    done = {
        "predictions": compact(platform.home, settings, now),
        "labels": compact_labels(platform.home, now),
    }
    removed = remove_expired(platform.home, settings, now) if retention else None
    if as_json:
        show_json(done if removed is None else {**done, "removed": removed})
        return
    for name, item in done.items():
        console.print(Text(_line(name, item)), soft_wrap=True)
        for segment, reason in item.damaged:
            console.print(Text(f"  quarantined: {segment}: {reason}", style="red"), soft_wrap=True)
    if removed is not None:
        console.print(f"removed: {removed.days} days, {megabytes(removed.bytes)}")


def _line(name: str, item: Compacted) -> str:
    return (
        f"{name}: {item.rows:,} rows of {item.segments:,} segments in {len(item.files):,} files, "
        f"{megabytes(item.bytes)}, {item.seconds:.1f} s"
    )
