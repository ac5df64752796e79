"""What every type of the settings is made of."""

from typing import Annotated

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


class Settings(BaseModel):
    """Frozen, and strict about names: a key that nothing reads is a mistake, not a wish.

    Strict about types too: YAML reads `yes` and `no` as true and false, which are no numbers.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )


class Service(Settings):
    """Where a part of the platform listens."""

    port: Port
    """The TCP port on 127.0.0.1."""

    @property
    def url(self) -> str:
        """Where programs on this machine reach it."""
        return f"http://127.0.0.1:{self.port}"
