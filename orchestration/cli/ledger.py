"""`slipway ledger`: what served when, who or what put it there, on which evidence."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from deploy.events import Event, Live
from deploy.history import brought_in, moment_of, serving_at
from deploy.ledger import Ledger
from deploy.platform import LocalPlatform
from deploy.provenance import dagster_run_url
from orchestration.cli.context import configured_model, existing_ledger, local_platform
from orchestration.cli.output import console, show_json, show_lines

_UNITS = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_LONGEST_REASON = 60


class NoEventError(LookupError):
    """The ledger says nothing of that time."""


class Moment(click.ParamType[datetime]):
    """ISO 8601, in local time unless it says a zone; or how long ago."""

    name = "TIME"

    def convert(self, value: Any, param: Any, ctx: Any) -> datetime:
        """See click.ParamType."""
        if isinstance(value, datetime):
            return value
        try:
            if ago := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|h|d|w)(?:\s+ago)?\s*", value):
                span = timedelta(**{_UNITS[ago[2]]: float(ago[1])})
                return datetime.now().astimezone() - span
            return datetime.fromisoformat(value).astimezone()
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time: 2026-11-20T14:30, 2026-11-20, or 2h (ago)")


@click.command()
@click.argument("model", required=False)
@click.option("--environment", help="All of them if left out; production with --at.")
@click.option(
    "--at",
    type=Moment(),
    help="What served then: 2026-11-20T14:30, a date (its first moment), both in local time unless "
    "a zone is given (Z, +02:00); or how long ago: 90s, 5min, 2h, 3d, 1w.",
)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Events.")
@click.option("--check", is_flag=True, help="Whether any row was changed; exits 1 if so.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def ledger(
    model: str | None,
    environment: str | None,
    at: datetime | None,
    limit: int,
    check: bool,
    as_json: bool,
) -> None:
    """Every change of what serves MODEL, the newest first."""
    if check == (model is not None):
        raise click.UsageError("name a MODEL, or --check the whole ledger")
    platform = local_platform()
    with existing_ledger(platform) as opened:
        if model is None:
            _check(opened, as_json)
        elif at is not None:
            _show_moment(platform, opened, model, environment or "production", at, as_json)
        else:
            _show_events(_events(platform, opened, model, environment), limit, as_json)


def _check(opened: Ledger, as_json: bool) -> None:
    count = opened.check()
    if as_json:
        show_json({"events": count})
    else:
        console.print(f"[green]{count} events, each as it was written[/]")


def _events(
    platform: LocalPlatform, opened: Ledger, model: str, environment: str | None
) -> list[Event]:
    """Of a model that is in the settings, or was when it was released."""
    events = opened.events(model, environment)
    if not events and not opened.events(model):
        configured_model(platform, model)
    return events


def _show_events(events: Sequence[Event], limit: int, as_json: bool) -> None:
    shown = list(reversed(events))[:limit]
    if as_json:
        show_json(shown)
        return
    if not shown:
        console.print("no event")
        return
    table = Table(box=None, header_style="dim")
    for name in ("when", "environment", "action", "then live", "by", "why", "run"):
        table.add_column(name, no_wrap=name not in ("then live", "by", "why"))
    for event in shown:
        cells = (
            _local(event),
            event.environment,
            event.action,
            shares(event.live),
            event.actor,
            why(event),
            (event.dagster_run or "")[:8],
        )
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)
    if left := len(events) - len(shown):
        console.print(f"[dim]{left} older: --limit {len(events)}[/]")


def _local(event: Event) -> str:
    return f"{moment_of(event).astimezone():%Y-%m-%d %H:%M:%S}"


def shares(lives: Sequence[Live]) -> str:
    """The versions and what each has of the traffic: `2 90 %, 3 10 %`."""
    return ", ".join(f"{live.label} {_share(live)}" for live in lives) or "nothing"


def _share(live: Live) -> str:
    if live.mirror:
        return f"copies of {live.mirror} %"
    return f"{live.weight} %" if live.weight else "resident"


def why(event: Event, longest: int = _LONGEST_REASON) -> str:
    """The reason that an event gives, or the proof."""
    proof = event.evidence.get("certificate_sha256")
    text = " ".join(str(event.evidence.get("reason") or "").split())
    text = text or (f"certificate {str(proof)[:12]}" if proof else "")
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _show_moment(
    platform: LocalPlatform,
    opened: Ledger,
    model: str,
    environment: str,
    at: datetime,
    as_json: bool,
) -> None:
    events = _events(platform, opened, model, environment)
    event = serving_at(events, at)
    if event is None:
        first = f"the first is of {moment_of(events[0]).astimezone().isoformat()}" if events else ""
        raise NoEventError(
            f"the ledger has no event of {model} in {environment} before {at.isoformat()}"
            + (f"; {first}" if first else "")
        )
    found = _moment(platform, events, event, at)
    if as_json:
        show_json(found)
    else:
        show_lines(f"{model} in {environment} at {at:%Y-%m-%d %H:%M:%S %z}", _lines(found))


def _moment(
    platform: LocalPlatform, events: Sequence[Event], event: Event, at: datetime
) -> dict[str, Any]:
    lives = []
    for live in event.live:
        first = brought_in(events, event, live.bento_digest)
        run = first.dagster_run
        lives.append(
            {
                "version": live.label,
                "live": live,
                "brought_in": first,
                "dagster_run_url": run and dagster_run_url(platform.configuration, run),
            }
        )
    return {"at": at, "event": event, "versions": lives}


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    event: Event = found["event"]
    lines = [
        ("served", shares(event.live)),
        ("since", f"{_local(event)} by {event.actor} ({event.action})"),
        ("event", f"{event.id}, generation {event.generation}"),
        ("why", why(event, 400)),
    ]
    for item in found["versions"]:
        live: Live = item["live"]
        first: Event = item["brought_in"]
        lines += [
            ("", ""),
            (f"version {live.label}", _share(live)),
            ("Bento", live.bento),
            ("ONNX", live.onnx_sha256),
            ("certificate", live.certificate_sha256),
            ("came", f"{_local(first)} by {first.actor} ({first.action}, event {first.id})"),
            ("Dagster run", item["dagster_run_url"] or "none"),
        ]
    return lines
