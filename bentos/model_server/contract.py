"""The model contract: what one model version takes and answers (`contract.json`).

It is derived from the MLflow signature at export and travels inside the Bento. Verification,
serving and batch scoring all read rows through it, so they agree on every column.
"""

import hashlib
from typing import Literal

import msgspec

FORMAT_VERSION = 1

# As trained; and with int8 weights and activations.
VARIANTS = ("fp32", "int8")

Dtype = Literal["float32", "float64", "int32", "int64", "bool", "string"]
Scalar = str | int | float | bool | None

FLOATS = ("float32", "float64")
INTEGERS = ("int32", "int64")


class ContractError(ValueError):
    """A contract that cannot be read or does not hold together."""


class TextPreprocessing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What happens to a text in Python before ONNX sees it, in this order.

    The same two steps, in the same order, as `sklearn.feature_extraction.text`'s preprocessor:
    ONNX's own tokenizer depends on the locale, so it only ever gets ASCII.

    lowercase: `str.lower()`.
    strip_accents: NFKD, then whatever is not ASCII is dropped.
    """

    lowercase: bool = False
    strip_accents: bool = False


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One named field of a request.

    minimum, maximum, categories, max_length are enforced where they are given (they come from
    the model's YAML). `required=False` means that null or a missing field is allowed; it
    reaches the graph as NaN.
    """

    name: str
    dtype: Dtype
    required: bool = True
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str | int, ...] | None = None
    max_length: int | None = None
    text: TextPreprocessing | None = None


class GraphInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One input of the ONNX graph.

    shape: `matrix` is (rows, len(columns)), also when there is one column; `vector` is (rows,)
    and takes exactly one column.
    """

    name: str
    dtype: Dtype
    columns: tuple[str, ...]
    shape: Literal["matrix", "vector"] = "matrix"


class Outputs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The graph's outputs.

    prediction: the output with the label (classification: (rows,) of strings or integers) or the
        value (regression: (rows,) or (rows, 1) of floats).
    probabilities: the output with one column for each of `labels`, (rows, len(labels)), or None.
    labels: the classes in the order of the probability columns; empty for a regression.
    """

    kind: Literal["classification", "regression"]
    prediction: str
    probabilities: str | None = None
    labels: tuple[str | int | float | bool, ...] = ()


class Entity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One join key by which features are looked up."""

    name: str
    dtype: Dtype


class FeatureSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where inputs come from that a request may leave out: a Feast feature service.

    entities: the join keys that a request has to name instead; provided: the inputs that the
    service fills in; request: the inputs that its on-demand views read. All inputs that are not
    provided come with the request, also those that only the model reads.
    """

    service: str
    entities: tuple[Entity, ...]
    provided: tuple[str, ...]
    request: tuple[str, ...] = ()


class Contract(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """See the module. `onnx_sha256` is the lower-case hex digest of `model.onnx`."""

    format_version: int = FORMAT_VERSION
    model: str
    version: int
    variant: str = "fp32"
    run_id: str | None = None
    model_id: str | None = None
    onnx_sha256: str
    inputs: tuple[Input, ...]
    graph_inputs: tuple[GraphInput, ...]
    outputs: Outputs
    feature_source: FeatureSource | None = None
    example: dict[str, Scalar]

    def __post_init__(self) -> None:
        if self.format_version != FORMAT_VERSION:
            raise ContractError(
                f"format_version is {self.format_version}; this build reads {FORMAT_VERSION}"
            )
        names = [field.name for field in self.inputs]
        if len(set(names)) != len(names):
            raise ContractError(f"inputs name a field twice: {names}")
        if self.feature_source is not None:
            source = self.feature_source
            if unknown := sorted({*source.provided, *source.request} - set(names)):
                raise ContractError(f"feature_source names fields that are no inputs: {unknown}")
        fed = {column for graph_input in self.graph_inputs for column in graph_input.columns}
        if unknown := sorted(fed - set(names)):
            raise ContractError(f"graph_inputs use columns that are no inputs: {unknown}")
        for graph_input in self.graph_inputs:
            if graph_input.shape == "vector" and len(graph_input.columns) != 1:
                raise ContractError(f"graph input {graph_input.name}: a vector takes one column")

    def digest(self) -> str:
        """SHA-256 (hex) of `contract.json`."""
        return hashlib.sha256(self.encode()).hexdigest()

    def encode(self) -> bytes:
        """The canonical bytes of `contract.json`: the same contract gives the same bytes."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def version_label(version: int | str, variant: str) -> str:
    """How clients name a version: `3`, or `3-int8` for a variant other than fp32."""
    return str(version) if variant == "fp32" else f"{version}-{variant}"


def parse_label(label: str) -> tuple[int, str]:
    """What `version_label` made: `3` → (3, "fp32"), `3-int8` → (3, "int8"). ValueError for others,
    `3-fp32` among them: a version has one name."""
    number, dash, variant = label.partition("-")
    is_number = number.isascii() and number.isdigit() and number[0] != "0" and len(number) < 10
    if not is_number or (dash and variant not in VARIANTS[1:]):
        raise ValueError(f"version {label!r} is none: write 3, or 3-int8 for a variant of it")
    return int(number), variant or VARIANTS[0]


def decode_contract(data: bytes) -> Contract:
    """Read `contract.json`; ContractError says which field is wrong."""
    try:
        return msgspec.json.decode(data, type=Contract)
    except (msgspec.DecodeError, ValueError) as error:
        raise ContractError(f"contract.json: {error}") from error
