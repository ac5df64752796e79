"""`slipway keys`: who may call the model servers. Works with the platform down, too."""

import json
import time
from datetime import datetime

import click
import msgspec
from rich.table import Table

from bentos.model_server.keys import KeyEntry, Scope
from deploy.keys import KeyStore
from orchestration.cli.context import local_home
from orchestration.cli.output import ago, console


@click.group()
def keys() -> None:
    """API keys: who may call the model servers. In force within seconds."""


@keys.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(["predict", "admin"]),
    multiple=True,
    default=["predict"],
    show_default=True,
    help="What it may do; give it twice for both.",
)
def add(name: str, scopes: tuple[Scope, ...]) -> None:
    """Make a key and print it, this once: KEY=$(slipway keys add NAME)."""
    home = local_home()
    first = not home.keys.exists()
    click.echo(KeyStore(home).add(name, scopes))
    click.echo(
        f"This is {name}'s key; only its hash is kept, so save it now. Send it as X-API-Key or as "
        "Authorization: Bearer."
        + (" From now on a prediction without a key is refused." if first else ""),
        err=True,
    )


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def list_keys(as_json: bool) -> None:
    """Names, scopes and times; the keys themselves are not kept."""
    home = local_home()
    entries = KeyStore(home).entries()
    if as_json:
        click.echo(json.dumps([_described(entry) for entry in entries], indent=2))
    elif entries:
        console.print(_table(entries))
    elif not home.keys.exists():
        console.print("no key: anybody on this machine may predict; `slipway keys add NAME`")


@keys.command()
@click.argument("name")
def revoke(name: str) -> None:
    """Let a key in no longer."""
    KeyStore(local_home()).revoke(name)
    console.print(f"{name} is revoked; model servers refuse it within seconds")


def _described(entry: KeyEntry) -> dict[str, object]:
    fields = ("id", "name", "scopes", "created", "revoked")
    return {name: msgspec.to_builtins(getattr(entry, name)) for name in fields}


def _table(entries: list[KeyEntry]) -> Table:
    table = Table("key", "scopes", "id", "added", "revoked", box=None, header_style="dim")
    for entry in entries:
        table.add_row(
            entry.name,
            ", ".join(entry.scopes),
            entry.id,
            _since(entry.created),
            _since(entry.revoked) if entry.revoked else "",
            style="dim" if entry.revoked else None,
        )
    return table


def _since(moment: datetime) -> str:
    return f"{ago(time.time() - moment.timestamp())} ago"
