"""The certificate: the proof that an ONNX graph answers as the trained model does.

It is written by `conversion_parity` for one ONNX digest, completed by the smoke test with the
same comparison over HTTP, and demanded by every deployment.
"""

import hashlib
from typing import Literal

import msgspec

from bentos.model_server.contract import VARIANTS, Contract, Scalar, version_label
from bentos.model_server.quantization import Quantization

FORMAT_VERSION = 1


class CertificateError(ValueError):
    """A certificate that cannot be read, is for something else, or did not pass."""


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the comparison may show at most.

    tolerance: largest difference of a probability (or, for a regression, of the value relative
        to max(1, |value|)) that counts as equal.
    max_label_flips: rows with another label than the trained model's.
    max_share_over_tolerance: share of rows, 0 to 1, over the tolerance.
    """

    tolerance: float = 1e-5
    max_label_flips: int = 0
    max_share_over_tolerance: float = 0.0


class Comparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The trained model against the graph on one kind of rows.

    ties: rows that no arithmetic can decide, counted apart. Their label differs while the trained
        model's two best scores lie within the tolerance of each other; or, on rows made to lie
        beside a threshold and on edge rows, the trained model itself gives the graph's answer
        when one number moves by 1e-12 relative (the last bits of a logarithm; a rounding to
        float32, 6e-8, is no tie). On reference rows only the former counts as a tie.
    excluded: rows of this kind that the contract or the trained model refuses, so that nothing was
        compared. Each different row counts once; of the reference rows, only those given count.
    made_up: how many of `rows` were drawn to fill up a small reference.
    """

    kind: Literal["reference", "thresholds", "edges"]
    rows: int
    max_abs_diff: float
    over_tolerance: int
    label_flips: int
    ties: int
    excluded: int = 0
    made_up: int = 0

    @property
    def given(self) -> int:
        """The rows that were given, compared or not."""
        return self.rows - self.made_up + self.excluded

    @property
    def lacks_given_rows(self) -> bool:
        """More than 5 % of the reference rows that were given could not be compared."""
        return self.kind == "reference" and self.excluded > 0.05 * self.given


class WorstRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the rows that differ most, with both answers."""

    kind: str
    features: dict[str, Scalar]
    difference: float
    expected: Scalar
    actual: Scalar
    expected_probabilities: tuple[float, ...] | None = None
    actual_probabilities: tuple[float, ...] | None = None


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the graph answered to a golden row. Floats are exact (float32 widened to float64)."""

    prediction: Scalar
    probabilities: tuple[float, ...] | None = None


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows with the graph's own answers, alone and as one batch, to be reproduced bit for bit."""

    rows: tuple[dict[str, Scalar], ...]
    single: tuple[Answer, ...]
    batch: tuple[Answer, ...]


class Parity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The comparison offline."""

    comparisons: tuple[Comparison, ...]
    limits: Limits
    worst: tuple[WorstRow, ...] = ()

    @property
    def passed(self) -> bool:
        """All three kinds of rows were compared, on enough of the given rows, within the limits."""
        return self.is_complete and all(self.agrees(c) for c in self.comparisons)

    @property
    def is_complete(self) -> bool:
        """All three kinds of rows were compared, on enough of the given rows."""
        kinds = {c.kind for c in self.comparisons}
        return kinds == {"reference", "thresholds", "edges"} and all(
            c.rows > 0 and not c.lacks_given_rows for c in self.comparisons
        )

    def agrees(self, comparison: Comparison) -> bool:
        """The rows that were compared keep the limits."""
        share = self.limits.max_share_over_tolerance
        return (
            comparison.label_flips <= self.limits.max_label_flips
            and comparison.over_tolerance <= share * comparison.rows
        )


class HttpParity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The golden rows over HTTP through the gateway, answered by one Bento.

    bento_digest: of that Bento; another build has to be tested again. Latencies in milliseconds.
    """

    url: str
    bento_digest: str
    single: int
    single_mismatches: int
    batch: int
    batch_mismatches: int
    bad_inputs: int
    bad_inputs_refused: int
    p50_ms: float
    p99_ms: float

    @property
    def passed(self) -> bool:
        """All golden rows came back within the tolerance and every bad input was refused."""
        return (
            self.single > 0
            and self.batch > 0
            and self.bad_inputs > 0
            and self.single_mismatches == 0
            and self.batch_mismatches == 0
            and self.bad_inputs_refused == self.bad_inputs
        )


class Certificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """See the module. `passed` in the JSON is for readers; it is checked against the figures."""

    format_version: int = FORMAT_VERSION
    model: str
    version: int
    variant: str
    onnx_sha256: str
    contract_sha256: str
    libraries: dict[str, str]
    parity: Parity
    golden: Golden
    quantization: Quantization | None = None
    http: HttpParity | None = None

    @property
    def parity_passed(self) -> bool:
        """The graph answers as the trained model: within the limits, or within those of its
        variant, which is not equal by design."""
        if self.variant == VARIANTS[0]:
            return self.parity.passed and self.quantization is None
        return (
            self.quantization is not None and self.quantization.passed and self.parity.is_complete
        )

    @property
    def passed(self) -> bool:
        """Parity held offline and over HTTP."""
        return self.parity_passed and self.http is not None and self.http.passed

    def require_parity(self, contract: Contract, onnx_sha256: str) -> None:
        """Raise CertificateError unless this proves parity for exactly that contract and graph."""
        if self.onnx_sha256 != onnx_sha256:
            raise CertificateError(
                f"the certificate of {self._name} is for ONNX digest "
                f"{self.onnx_sha256[:12]}, but the model's digest is {onnx_sha256[:12]}: "
                "the ONNX file was exchanged; export and verify the version again"
            )
        if self.contract_sha256 != contract.digest():
            raise CertificateError(
                f"contract.json of {self._name} is not the one that was "
                "verified: it was exchanged; export and verify the version again"
            )
        if not self.parity_passed:
            raise CertificateError(
                f"{self._name} did not pass conversion_parity; {self._reasons()}"
            )

    @property
    def _name(self) -> str:
        return f"{self.model} version {version_label(self.version, self.variant)}"

    def _reasons(self) -> str:
        if self.quantization is not None and self.quantization.refusals:
            return " ".join(self.quantization.refusals)
        return "see the check's table of the worst rows"

    def require(self, contract: Contract, onnx_sha256: str, bento_digest: str) -> None:
        """Raise CertificateError unless this proves parity, and that Bento over HTTP."""
        self.require_parity(contract, onnx_sha256)
        if not self.passed or self.http is None or self.http.bento_digest != bento_digest:
            raise CertificateError(
                f"{self._name} has no passing smoke test of this Bento "
                f"({bento_digest[:12]}); deploy it to staging and run smoke_test first"
            )

    def encode(self) -> bytes:
        """The bytes of `certificate.json`, with the verdict spelled out."""
        document = msgspec.to_builtins(self) | {"passed": self.passed}
        return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"

    def digest(self) -> str:
        """SHA-256 (hex) of `certificate.json`."""
        return hashlib.sha256(self.encode()).hexdigest()


def decode_certificate(data: bytes) -> Certificate:
    """Read `certificate.json`; a verdict that its own figures do not bear out is refused."""
    try:
        document = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        stated = msgspec.json.decode(document.pop("passed", msgspec.Raw(b"null")), type=bool)
        certificate = msgspec.json.decode(msgspec.json.encode(document), type=Certificate)
    except (msgspec.DecodeError, ValueError) as error:
        raise CertificateError(f"certificate.json: {error}") from error
    if stated != certificate.passed:
        raise CertificateError(
            f"certificate.json says passed={stated}, its figures say {certificate.passed}"
        )
    return certificate
