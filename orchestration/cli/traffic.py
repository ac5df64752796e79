"""`slipway split`, `rollback`, `load`, `retire`: what serves, changed by hand.

Directly on the ledger and the gateway: the owner of SLIPWAY_HOME needs no key, no Dagster and no
running API, and it is done when the command returns.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.table import Table
from rich.text import Text

from bentos.model_server.contract import parse_label
from deploy.again import roll_back
from deploy.assembly import configured_traffic
from deploy.events import Event, Live
from deploy.ledger import open_ledger
from deploy.load_and_split import load_and_split
from deploy.platform import LocalPlatform
from deploy.traffic import Actor, Traffic
from deploy.versions import built_release
from orchestration.cli.context import configured_model, local_platform, require_up
from orchestration.cli.output import console
from orchestration.cli.roles import role
from orchestration.cli.user import user_name
from orchestration.cli.version_label import VersionLabel


class WeightsError(ValueError):
    """Weights that cannot be read."""


class UnknownEnvironmentError(ValueError):
    """No settings name this environment."""


def actor() -> str:
    """Who calls, as the ledger will say."""
    return f"{user_name()} (slipway)"


def parse_weights(texts: tuple[str, ...]) -> dict[str, int]:
    """`("1=90", "2=10")` → version label → percent. WeightsError says what is wrong with which."""
    found: dict[str, int] = {}
    for text in texts:
        label, _, weight = text.partition("=")
        label = label.removeprefix("v")
        if not label or not (weight.isascii() and weight.isdigit()):
            raise WeightsError(
                f"{text!r} is no weight: write VERSION=PERCENT with a whole number, as in 1=90 2=10"
            )
        try:
            parse_label(label)
        except ValueError as error:
            raise WeightsError(f"{text!r}: {error}") from error
        if label in found:
            raise WeightsError(f"version {label} is named twice: give each version one weight")
        found[label] = int(weight)
    return found


@contextmanager
def open_traffic(platform: LocalPlatform) -> Iterator[Traffic]:
    """Changes of the checkout's own ledger and gateway."""
    home, configuration = platform.home, platform.configuration
    with open_ledger(home, configuration) as ledger:
        yield configured_traffic(home, configuration, ledger, platform.working_directory)


def _checked(model: str, environment: str) -> LocalPlatform:
    platform = local_platform()
    configured_model(platform, model)
    known = platform.configuration.environments
    if environment not in known:
        raise UnknownEnvironmentError(
            f"no environment {environment!r} in {platform.config_folder / 'environments'}; "
            f"environments: {', '.join(sorted(known))}"
        )
    return platform


_environment = click.option("--environment", default="production", show_default=True)
_json = click.option("--json", "as_json", is_flag=True, help="For scripts.")


@click.command()
@click.argument("model")
@click.argument("weights", nargs=-1, metavar="[VERSION=PERCENT]...")
@_environment
@_json
def split(model: str, weights: tuple[str, ...], environment: str, as_json: bool) -> None:
    """Share MODEL's traffic between versions, as in 1=90 2=10; without weights, show it.

    A verified version that is not live is loaded first.
    """
    wanted = parse_weights(weights)
    platform = _checked(model, environment)
    if wanted:
        require_up(platform)
        with open_traffic(platform) as traffic:
            load_and_split(
                traffic,
                environment,
                model,
                wanted,
                Actor(actor()),
                lambda label: built_release(platform.home, model, label),
            )
    _show(platform, environment, model, as_json)


@click.command()
@click.argument("model")
@_environment
@click.option("--reason", default="by hand", help="What the ledger keeps as the reason.")
@click.option(
    "--again", is_flag=True, help="One version further, also right after another rollback."
)
@_json
def rollback(model: str, environment: str, reason: str, again: bool, as_json: bool) -> None:
    """All of MODEL's traffic back to the version that was healthy before."""
    platform = _checked(model, environment)
    require_up(platform)
    with open_traffic(platform) as traffic:
        roll_back(traffic, environment, model, Actor(actor()), reason, again=again)
    _show(platform, environment, model, as_json)


@click.command()
@click.argument("model")
@click.option("--version", type=VersionLabel(), required=True, help="As 3 or 3-int8.")
@_environment
@_json
def load(model: str, version: str, environment: str, as_json: bool) -> None:
    """Bring up a built version of MODEL beside the live ones, without traffic."""
    platform = _checked(model, environment)
    require_up(platform)
    release = built_release(platform.home, model, version)
    with open_traffic(platform) as traffic:
        traffic.load(release, environment, Actor(actor()))
    _show(platform, environment, model, as_json)


@click.command()
@click.argument("model")
@click.argument("version", type=VersionLabel())
@_environment
@_json
def retire(model: str, version: str, environment: str, as_json: bool) -> None:
    """Let a version of MODEL without traffic go: its server stops."""
    platform = _checked(model, environment)
    require_up(platform)
    with open_traffic(platform) as traffic:
        traffic.retire(environment, model, version, Actor(actor()))
    _show(platform, environment, model, as_json)


def _show(platform: LocalPlatform, environment: str, model: str, as_json: bool) -> None:
    """What the ledger says is live now, and which event led to it."""
    with open_ledger(platform.home, platform.configuration) as ledger:
        live = ledger.state(environment, model).live
        event = ledger.last_event(environment, model)
    if as_json:
        click.echo(json.dumps(_described(environment, model, live, event), indent=2))
    elif event is None:
        console.print(f"{environment} serves no version of {model}")
    else:
        console.print(_table(live, event))
        console.print(Text(_last_change(event), style="dim"), soft_wrap=True)


def _described(
    environment: str, model: str, live: tuple[Live, ...], event: Event | None
) -> dict[str, object]:
    return {
        "environment": environment,
        "model": model,
        "generation": event.generation if event else 0,
        "live": [
            {
                "version": item.label,
                "weight": item.weight,
                "mirror": item.mirror,
                "role": role(item, event),
                "bento": item.bento,
            }
            for item in live
        ],
        "event": {
            "id": event.id,
            "at": event.at,
            "action": event.action,
            "version": event.label,
            "actor": event.actor,
            "reason": event.evidence.get("reason"),
        }
        if event
        else None,
    }


def _last_change(event: Event) -> str:
    reason = event.evidence.get("reason")
    said = f"{event.action} by {event.actor}, generation {event.generation}"
    return f"{said}: {reason}" if reason else said


def _table(live: tuple[Live, ...], event: Event) -> Table:
    table = Table("version", "weight", "", box=None, header_style="dim")
    for item in live:
        table.add_row(item.label, f"{item.weight} %", role(item, event))
    return table
