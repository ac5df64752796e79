"""The documents of a batch job: what is to be done, what was done of it, and what came out.

    <output>/part-00000.parquet, …           scored rows, one file for each part that has some
    <output>/_rejects/part-00003.parquet     rows that the contract refuses, with the reason
    <output>/_manifest.json                  written last: without it nothing is a result

While the job runs, its files lie in a work folder (`orchestration.batch.work`) that holds
`plan.json`, the parts' files and `receipts/00000.json`. Readers skip names that begin with `_` or
`.` (Spark, DuckDB's and pyarrow's datasets), so what is visible is only ever a whole result.
"""

import hashlib
from typing import Any, Literal

import msgspec

FORMAT_VERSION = 1
Format = Literal["parquet", "csv", "arrow"]
# What the output adds to the key columns, in this order; one `probability_<class>` (float64) for
# each class after the prediction.
PREDICTION, PROBABILITY, VERSION, DIGEST, SCORED_AT = (
    "prediction",
    "probability_",
    "model_version",
    "onnx_sha256",
    "scored_at",
)
# What a reject adds to all columns of its row. The row's number counts from 0 in its file.
REASON, SOURCE_FILE, SOURCE_ROW = "reason", "source_file", "source_row"


class SourceFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of the input. path: as `storage.open_location` takes it (absolute, or a URL); tag:
    what changes when its bytes do (an ETag, or size and time of change)."""

    path: str
    size: int
    tag: str
    rows: int | None = None


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A piece of one file that is scored, written and resumed as a whole.

    start, stop: of Parquet row groups; of Arrow record batches; of CSV offsets of bytes in the
    (unpacked) file, both between two rows. first_row: the number of its first row in the file;
    rows: how many.
    """

    index: int
    file: int
    start: int
    stop: int
    first_row: int | None = None
    rows: int | None = None

    @property
    def name(self) -> str:
        """Of its files, without the suffix."""
        return f"part-{self.index:05d}"


class ColumnType(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A column of the input. type: Arrow's name of it (`double`, `timestamp[us, tz=UTC]`)."""

    name: str
    type: str


class JoinedView(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One feature view of the service: its join keys, the features that are asked for, and what
    the settings say of an entity without them; see `serving_config.features.FeatureView`."""

    name: str
    keys: tuple[str, ...]
    features: tuple[str, ...]
    on_unknown: Literal["refuse", "default"] = "refuse"
    on_stale: Literal["refuse", "default", "serve"] = "refuse"
    defaults: dict[str, str | int | float | bool] = {}


class FeatureJoin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Inputs come from a feature service, as they were at each row's `timestamp` column.

    looked_up: what the service reads of a row beside the moment (its entities and the fields of
    its on-demand views), with the contract's dtypes; store: the feature store's settings file.
    """

    service: str
    entities: tuple[str, ...]
    provided: tuple[str, ...]
    timestamp: str
    looked_up: dict[str, str] = {}
    views: tuple[JoinedView, ...] = ()
    store: str = "feature_store.yaml"


class ModelIdentity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The verified model, to the byte. version: the label, `3` or `3-int8`."""

    model: str
    version: str
    onnx_sha256: str
    contract_sha256: str
    certificate_sha256: str
    bento: str
    bento_digest: str
    run_id: str | None = None


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All that decides what comes out: the same plan gives the same files, bit for bit, whichever
    engine carries it out. It is made once; a job that continues reads it back.

    schema: the input's columns; keys: those that the output keeps; part_rows: about so many rows
    are a part; batch_rows: rows of one inference; scored_at: when the job began,
    ISO 8601 in UTC, the same for all rows.
    """

    format_version: int = FORMAT_VERSION
    model: ModelIdentity
    input: str
    format: Format
    files: tuple[SourceFile, ...]
    schema: tuple[ColumnType, ...]
    keys: tuple[str, ...]
    join: FeatureJoin | None = None
    parts: tuple[Part, ...]
    part_rows: int
    batch_rows: int
    scored_at: str

    def encode(self) -> bytes:
        """The bytes of `plan.json`."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    @property
    def work_digest(self) -> str:
        """Of all but `scored_at`: a job that was asked for again is the same job."""
        same = msgspec.structs.replace(self, scored_at="")
        return hashlib.sha256(msgspec.json.encode(same)).hexdigest()


class PartFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file that a part wrote. path: relative to the output."""

    path: str
    rows: int
    size: int
    sha256: str


class Distribution(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was predicted. labels: rows by class; of a regression: rows by the upper bound of one
    of 64 bins of equal width between the least and greatest value, in `edges` (65 numbers)."""

    labels: dict[str, int] = {}
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part is done: `rows_in == rows_out + rejects`. seconds: of one core, for the rate.

    labels: rows by predicted class; values: of a regression, at most 1,000 of its values, every
    n-th, for the distribution.
    """

    part: int
    rows_in: int
    rows_out: int
    rejects: int
    file: PartFile | None = None
    rejects_file: PartFile | None = None
    reasons: dict[str, int] = {}
    labels: dict[str, int] = {}
    values: tuple[float, ...] = ()
    seconds: float


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`_manifest.json`: counts, digests, lineage. reasons: rejected rows by field and reason, at
    most 100 of them."""

    format_version: int = FORMAT_VERSION
    job: str
    engine: Literal["local", "ray"]
    model: ModelIdentity
    input: str
    format: Format
    inputs: tuple[SourceFile, ...]
    output: str
    keys: tuple[str, ...]
    join: FeatureJoin | None = None
    rows_in: int
    rows_out: int
    rejects: int
    reasons: dict[str, int]
    files: tuple[PartFile, ...]
    rejects_files: tuple[PartFile, ...]
    distribution: Distribution
    scored_at: str
    finished_at: str
    seconds: float
    resumed_parts: int
    libraries: dict[str, str]
    actor: str = ""
    dagster_run: str | None = None

    def encode(self) -> bytes:
        """The bytes of `_manifest.json`."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def to_builtins(document: msgspec.Struct) -> dict[str, Any]:
    """For `--json` and for the API."""
    found: dict[str, Any] = msgspec.to_builtins(document)
    return found
