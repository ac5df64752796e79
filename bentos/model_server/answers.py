"""Predictions as JSON. Floats are exact: float32 is widened to float64 and written with the
fewest digits that read back as the same number, so a client gets the very bits of the model."""

from typing import TYPE_CHECKING, Any

import msgspec

from bentos.model_server.contract import Contract, version_label
from bentos.model_server.feature_answer import LookedUp

if TYPE_CHECKING:  # it imports ONNX Runtime, which the control process does without
    from bentos.model_server.session import Scored


class ModelName(msgspec.Struct, frozen=True):
    """Which model answered. version: the number as a string."""

    name: str
    version: str
    variant: str


class One(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer of `/predict`. probabilities: by label; absent for a regression."""

    prediction: Any
    model: msgspec.Raw
    request_id: str
    probabilities: dict[str, float] | None = None


class Many(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer of `/predict/batch`, in the order of the rows."""

    predictions: list[Any]
    model: msgspec.Raw
    request_id: str
    probabilities: list[dict[str, float]] | None = None


class OneLookedUp(One, frozen=True, omit_defaults=True):
    """To a request with entities. features: by view, what was looked up; defaulted: the features
    that defaults stand in for."""

    features: msgspec.Raw = msgspec.Raw()
    defaulted: list[str] = []


class ManyLookedUp(Many, frozen=True, omit_defaults=True):
    """As `OneLookedUp`, by row; defaulted is left out where no row has any."""

    features: list[msgspec.Raw] = []
    defaulted: list[list[str]] = []


def version_header(contract: Contract) -> str:
    """`X-Model-Version`."""
    return version_label(contract.version, contract.variant)


def label_key(label: str | int | float | bool) -> str:
    """A class label as the key of a JSON object, spelled as JSON spells it."""
    return label if isinstance(label, str) else msgspec.json.encode(label).decode()


class Answers:
    """Encodes predictions of one contract."""

    def __init__(self, contract: Contract) -> None:
        model = ModelName(contract.model, str(contract.version), contract.variant)
        self._model = msgspec.Raw(msgspec.json.encode(model))
        self._encode = msgspec.json.Encoder().encode
        self._keys = [label_key(label) for label in contract.outputs.labels]

    def _by_label(self, answer: "Scored") -> list[dict[str, float]] | None:
        if answer.probabilities is None:
            return None
        return [dict(zip(self._keys, row, strict=True)) for row in answer.probabilities]

    def one(self, answer: "Scored", request_id: str, found: LookedUp | None = None) -> bytes:
        """The answer to one row. found: what was looked up for it."""
        by_label = self._by_label(answer)
        probabilities = None if by_label is None else by_label[0]
        if found is None:
            return self._encode(One(answer.labels[0], self._model, request_id, probabilities))
        features = msgspec.Raw(found.lookups[0])
        return self._encode(
            OneLookedUp(
                *(answer.labels[0], self._model, request_id, probabilities),
                *(features, found.defaulted[0]),
            )
        )

    def many(self, answer: "Scored", request_id: str, found: LookedUp | None = None) -> bytes:
        """The answer to a batch. found: what was looked up for it."""
        probabilities = self._by_label(answer)
        if found is None:
            return self._encode(Many(answer.labels, self._model, request_id, probabilities))
        features = [msgspec.Raw(lookup) for lookup in found.lookups]
        defaulted = found.defaulted if any(found.defaulted) else []
        return self._encode(
            ManyLookedUp(
                *(answer.labels, self._model, request_id, probabilities), *(features, defaulted)
            )
        )
