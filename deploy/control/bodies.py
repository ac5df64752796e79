"""What clients of the control API may send. Strict: 90.0, true and "90" are no numbers."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    WithJsonSchema,
)

from bentos.model_server.contract import VARIANTS
from serving_config.base import Name
from serving_config.batch import Engine, Location

PRODUCTION = "production"
LABEL = rf"^v?[1-9][0-9]{{0,8}}(-({'|'.join(VARIANTS[1:])}))?$"
Number = Annotated[int, Field(ge=1, le=999_999_999, examples=[2])]
Label = Annotated[str, Field(pattern=LABEL, examples=["v2"])]
Text = Annotated[
    str, Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*$")
]


class _Given(BaseModel):
    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True
    )


_Percent = Annotated[int, Field(ge=0, le=100)]


class Weights(RootModel[Annotated[dict[Label, _Percent], Field(min_length=1)]]):
    """Percent of the traffic by version, together 100. A live version that is not named gets 0."""

    model_config = ConfigDict(
        strict=True,
        json_schema_extra={"examples": [{"v1": 90, "v2": 10}]},
    )


class Load(_Given):
    """A verified version, to be brought up beside the live ones."""

    version: Number | Label
    environment: Name = PRODUCTION


class Promote(_Given):
    """A version that staging has proved, for production."""

    version: Number | Label
    policy: Literal["direct", "blue_green", "canary"] | None = None
    """The configured release policy where it is left out."""


class Rollback(_Given):
    """Back to the last healthy version."""

    reason: Text = Field(examples=["wrong answers for spam in Spanish"])
    """One line for the ledger."""
    environment: Name = PRODUCTION
    again: bool = False
    """One version further, also where the last rollback was within the last five minutes."""


class Retire(_Given):
    """A live version without traffic, to be let go."""

    version: Number | Label
    environment: Name = PRODUCTION


def _scalar(value: Any) -> Any:
    if not isinstance(value, str | int | float):
        raise ValueError("must be a text, a number, true or false")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("must fit into 64 bits")
    return value


# One message, where a union would have one for each of its members.
_Label = Annotated[
    Any,
    AfterValidator(_scalar),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1, "maxLength": 1000},
                {"type": "number"},
                {"type": "boolean"},
            ]
        }
    ),
]


class GivenLabel(_Given):
    """What is true of one row of an answer."""

    request_id: Annotated[str, Field(min_length=1, max_length=128)]
    """The answer's `X-Request-ID`."""
    row: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Its index in the request."""
    label: _Label
    """The class, as the answers spell it; or the value, of a regression."""


class Labels(_Given):
    """Labels for answers of one model. Each (request_id, row) may stand there once."""

    model: Name
    environment: Name = PRODUCTION
    labels: Annotated[list[GivenLabel], Field(min_length=1, max_length=10_000)]


_Column = Annotated[str, Field(min_length=1, max_length=256)]


class BatchJob(_Given):
    """A table to be scored. input, output: below `<home>/batch` or one of `batch.locations`."""

    model: Name
    input: Location = Field(examples=["/var/lib/slipway/batch/iris/new/*.parquet"])
    """A file, a folder or a pattern: a path, or a URL of an object storage. Parquet, CSV, Arrow."""
    output: Location = Field(examples=["/var/lib/slipway/batch/iris/scored"])
    """The folder that appears when all is done."""
    version: Number | Label | None = None
    """The one with the most traffic in `environment` where it is left out."""
    environment: Name = PRODUCTION
    keys: Annotated[list[_Column], Field(max_length=1000)] | None = None
    """The input's columns that the output keeps; all that are no inputs of the model."""
    timestamp: _Column | None = None
    """The column with the moment for which features are looked up; the model's
    `batch.timestamp`."""
    engine: Engine | None = None
    """The model's `batch.engine` where it is left out."""
    overwrite: bool = False
    """Whether a result that is there is replaced."""


class _Query(BaseModel):
    """A name that is not a parameter is refused: a misspelt `environment` would mean another."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Scope(_Query):
    """Which model, in which environment."""

    model: Name | None = None
    """`default_model` of platform.yaml where it is left out."""
    environment: Name | None = None
    """`default_environment` of platform.yaml where it is left out."""


class Where(_Query):
    """In which environment."""

    environment: Name | None = None
    """`default_environment` of platform.yaml where it is left out."""


class History(_Query):
    """Which events of the ledger."""

    model: Name | None = None
    """Of all models where it is left out."""
    environment: Name | None = None
    """Of all environments where it is left out."""
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    """The newest so many."""
    at: AwareDatetime | None = None
    """The last event until then, of each model and environment: what led to what was served."""


def label(text: str | int) -> str:
    """As the ledger names a version: `3` or `3-int8`."""
    return str(text).removeprefix("v")
