"""`slipway run`: one part of the platform in the foreground, for a container."""

import click

from deploy.parts import PARTS
from orchestration.cli.context import local_platform
from orchestration.parts import become


@click.command()
@click.argument("part", type=click.Choice(PARTS))
def run(part: str) -> None:
    """One part of the platform by itself, in the foreground; SIGTERM ends it.

    The parts share SLIPWAY_HOME; docs/containers.md says how they find each other.
    """
    become(local_platform(), part)
