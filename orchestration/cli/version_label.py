"""Version labels on the command line."""

import click

from bentos.model_server.contract import parse_label


class VersionLabel(click.ParamType[str]):
    """`3` or `3-int8`, with or without a `v` in front."""

    name = "VERSION"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See click.ParamType."""
        label = value.removeprefix("v")
        try:
            parse_label(label)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return label
