"""What of a row may be kept: columns that are never logged, and columns that are hashed."""

import hmac
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

_KEY = re.compile(r"[0-9a-f]{64}")


class PredictionLogError(ValueError):
    """The log cannot be kept as it is configured."""


def read_key(path: Path | None) -> bytes:
    """The key of hashed columns: 32 bytes, in the file as hex."""
    if path is None:
        raise PredictionLogError("the model has hashed columns, and SLIPWAY_PII_KEY names no key")
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise PredictionLogError(
            f"the model has hashed columns, and SLIPWAY_PII_KEY {path} cannot be read: {error}"
        ) from error
    if not _KEY.fullmatch(text):
        raise PredictionLogError(f"SLIPWAY_PII_KEY {path} is not 64 lower-case hex digits")
    return bytes.fromhex(text)


class Mask:
    """Bound to one model's inputs; key: see `read_key`, None where nothing is hashed.

    columns, dtypes: the inputs that are kept, in their order, for the segment's header.
    """

    def __init__(
        self,
        inputs: Iterable[tuple[str, str]],
        never: Iterable[str] = (),
        hashed: Iterable[str] = (),
        key: bytes | None = None,
    ) -> None:
        fields = list(inputs)
        self._never, self._hashed = frozenset(never), frozenset(hashed)
        self._key = key
        self.width = len(fields)
        self._kept = [i for i, (name, _) in enumerate(fields) if name not in self._never]
        self.columns = tuple(fields[i][0] for i in self._kept)
        self.dtypes = tuple(
            "string" if fields[i][0] in self._hashed else fields[i][1] for i in self._kept
        )
        self._hashed_columns = [i for i, name in enumerate(self.columns) if name in self._hashed]
        # A join key may be called as an input is.
        self._masks_entities = bool(self._never | self._hashed)

    def hash(self, value: Any) -> str | None:
        """HMAC-SHA-256 (hex) of a text, or of any other value's JSON; None stays None."""
        if value is None:
            return None
        data = value.encode() if isinstance(value, str) else msgspec.json.encode(value)
        return hmac.digest(self._key or b"", data, "sha256").hex()

    def features(self, columns: Sequence[Sequence[Any]]) -> list[list[Any]]:
        """One list for each kept column, of one for each input."""
        kept = [list(columns[i]) for i in self._kept]
        for i in self._hashed_columns:
            kept[i] = [self.hash(value) for value in kept[i]]
        return kept

    def entities(self, texts: list[str | None]) -> list[str | None]:
        """JSON objects of join keys."""
        if not self._masks_entities:
            return texts
        return [None if text is None else self._entity(text) for text in texts]

    def _entity(self, text: str) -> str:
        keys = msgspec.json.decode(text)
        masked = {
            name: self.hash(value) if name in self._hashed else value
            for name, value in keys.items()
            if name not in self._never
        }
        return msgspec.json.encode(masked).decode()
