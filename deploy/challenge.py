"""`challenger.json`: a retrained version held against the one in production.

It is written by the check `better_than_production`; a promotion that nobody asked for demands it.
"""

from typing import Literal

import msgspec

from bentos.model_server.contract import VARIANTS, version_label

Metric = Literal["accuracy", "f1", "roc_auc", "rmse"]
_LOWER_IS_BETTER = ("rmse",)


class ChallengeError(ValueError):
    """Why a version may not replace the one in production by itself."""


class Champion(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The version in production, as it was compared."""

    version: int
    onnx_sha256: str
    variant: str = VARIANTS[0]

    @property
    def label(self) -> str:
        """How clients name it."""
        return version_label(self.version, self.variant)


class Comparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Both versions' scores on the candidate's hold-out.

    rows: scored; left_out: refused by a contract; holdout_sha256: of the file's bytes.
    """

    metric: Metric
    candidate: float
    production: float
    min_gain: float
    rows: int
    left_out: int
    holdout_sha256: str

    @property
    def gain(self) -> float:
        """By how much the candidate is better; NaN where a score is."""
        difference = self.candidate - self.production
        return -difference if self.metric in _LOWER_IS_BETTER else difference


class Challenge(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is known of one version, for exactly that graph.

    retrained_because: "" for one that a person trained, which needs no comparison.
    champion: None where production serves nothing; failure: why there is no comparison.
    """

    model: str
    version: int
    onnx_sha256: str
    retrained_because: str = ""
    champion: Champion | None = None
    comparison: Comparison | None = None
    failure: str = ""

    @property
    def passed(self) -> bool:
        """Whether the version may replace the champion by itself."""
        if self.unopposed:
            return True
        return self.comparison is not None and self.comparison.gain > self.comparison.min_gain

    @property
    def unopposed(self) -> bool:
        """Whether there is nothing to be better than."""
        if not self.retrained_because or self.champion is None:
            return True
        return self.champion.onnx_sha256 == self.onnx_sha256

    @property
    def verdict(self) -> str:
        """In a sentence."""
        if not self.retrained_because:
            return "no check asked for this version: nothing to compare"
        if self.champion is None:
            return "production serves no version: nothing to compare with"
        if self.unopposed:
            return "production serves this very graph"
        found, other = self.comparison, f"version {self.champion.label} in production"
        if found is None:
            return f"not compared with {other}: {self.failure or 'nobody knows why'}"
        scores = f"{found.metric} {found.candidate:.4g}, {other} {found.production:.4g}"
        needed = f"more than {found.min_gain:g} is needed" if found.min_gain else "it has to be"
        return f"{'better' if self.passed else f'not better, {needed}'}: {scores}"

    def won_against(self, champion: Champion | None) -> bool:
        """Whether it was compared with that version, and found better."""
        return self.comparison is not None and self.passed and self.champion == champion

    def require(self, onnx_sha256: str) -> None:
        """ChallengeError unless it passed, for that graph."""
        name = f"{self.model} version {self.version}"
        if self.onnx_sha256 != onnx_sha256:
            raise ChallengeError(f"challenger.json of {name} is for another graph than model.onnx")
        if not self.passed:
            raise ChallengeError(f"{name} did not pass better_than_production: {self.verdict}")

    def encode(self) -> bytes:
        """The bytes of `challenger.json`, with the verdict spelled out for people."""
        document = msgspec.to_builtins(self) | {"passed": self.passed, "verdict": self.verdict}
        return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def decode_challenge(data: bytes) -> Challenge:
    """Read `challenger.json`; its verdict is made anew of its figures."""
    try:
        document = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        for derived in ("passed", "verdict"):
            document.pop(derived, None)
        return msgspec.json.decode(msgspec.json.encode(document), type=Challenge)
    except msgspec.DecodeError as error:
        raise ChallengeError(f"challenger.json: {error}") from error
