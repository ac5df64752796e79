"""What every type of the settings is made of."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[
    str,
    Field(
        pattern=r"^[a-z][a-z0-9-]{0,62}$",
        description="Lower-case letters, digits and dashes, beginning with a letter.",
    ),
]
# Not strict: it may come from a variable, as text.
Port = Annotated[int, Field(ge=1, le=65535, strict=False)]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
# A DNS name or an IPv4 address.
HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$")]
# No slash at its end: paths are put behind it. No user and password: people see it.
Url = Annotated[str, Field(pattern=r"^https?://[^\s?#@]*[^\s?#@/]$")]


class Settings(BaseModel):
    """Frozen, and strict about names: a key that nothing reads is a mistake, not a wish.

    Strict about types too: YAML reads `yes` and `no` as true and false, which are no numbers.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )


def _on_this_machine(settings: dict[str, Any]) -> str:
    return f"http://127.0.0.1:{settings['port']}"


class Service(Settings):
    """Where a part of the platform listens, and where others reach it."""

    port: Port
    """Its TCP port, on `host` of platform.yaml."""
    url: Url = Field(default_factory=_on_this_machine)
    """Where the other parts reach it, such as `http://dagster:3000`; `http://127.0.0.1:<port>`
    where it is left out."""
