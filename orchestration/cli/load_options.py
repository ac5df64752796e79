"""The options of `slipway load-test`: durations, and what of them fits together."""

import math
import re
from importlib.util import find_spec
from pathlib import Path

import click

from orchestration.load_test.plan import ClosedLoop, OpenLoop, Plan

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
_LONGEST_SECONDS = 24 * 3600
_USUAL_SECONDS = 10.0


def duration(_: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """A click callback: `10s`, `500ms`, `2m`, `1h`, or seconds, as seconds."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", value)
    if match is None:
        raise click.BadParameter(f"{value!r} is no duration; write 10s, 500ms, 2m or 1h")
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > _LONGEST_SECONDS:
        raise click.BadParameter(f"{value!r} is longer than 24h")
    return seconds


def rate(_: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """A click callback: requests a second, `500` or `500/s`."""
    if value is None:
        return None
    try:
        found = float(value.removesuffix("/s"))
    except ValueError:
        found = math.nan
    if not 0.001 <= found <= 1_000_000:
        raise click.BadParameter(
            f"{value!r} is no rate; write requests a second, from 0.001 to 1000000"
        )
    return found


def plan(
    *,
    connections: int,
    rate: float | None,
    delay: float | None,
    warm_up: float,
    duration: float | None,
    requests: int | None,
    timeout: float,
) -> Plan:
    """An open loop with a rate, else a closed one. UsageError for what contradicts itself."""
    if duration is None and requests is None:
        duration = _USUAL_SECONDS
    for name, value in (("--duration", duration), ("--timeout", timeout)):
        if value == 0:
            raise click.UsageError(f"{name} must be more than 0")
    if rate is None:
        return ClosedLoop(
            connections=connections,
            warm_up=warm_up,
            duration=duration,
            requests=requests,
            timeout=timeout,
            delay=delay or 0.0,
        )
    if delay is not None:
        raise click.UsageError(
            "--delay is for a closed loop; with --rate requests have their times"
        )
    return OpenLoop(
        connections=connections,
        warm_up=warm_up,
        duration=duration,
        requests=requests,
        timeout=timeout,
        rate=rate,
    )


def check_plot(path: Path) -> None:
    """UsageError, before any load, where the plot could not be written after it."""
    if path.suffix.lower() not in (".svg", ".png"):
        raise click.UsageError(f"--plot {path}: the name must end in .svg or .png")
    if not path.parent.is_dir():
        raise click.UsageError(f"--plot {path}: there is no folder {path.parent}")
    if find_spec("matplotlib") is None:
        raise click.UsageError("--plot needs matplotlib, which is not installed")
