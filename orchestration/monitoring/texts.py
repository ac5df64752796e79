"""Statistics of texts: what drift of a text is told by, since no two texts are the same."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

UNKNOWN_WORDS = "share of unknown words"
STATISTICS = (
    "length",
    "words",
    "share of capitals",
    "share of digits",
    "share of non-ASCII",
    UNKNOWN_WORDS,
)
# A few microseconds for each; more tell no more about a distribution.
MAX_TEXTS = 20_000
_WORD = re.compile(r"\w+")
_MAX_CHARACTERS = 20_000


def statistics(
    reference: "pd.Series[Any]", current: "pd.Series[Any]"
) -> tuple["pd.DataFrame", "pd.DataFrame"]:
    """One row of STATISTICS for each text, NaN for a missing one.

    The words of one half of the reference are the known ones, and the other half is what the
    current texts are compared with: a text always knows its own words.
    """
    shuffled = reference.sample(min(len(reference), 2 * MAX_TEXTS), random_state=0)
    half = len(shuffled) // 2
    known = {word for text in shuffled[:half].dropna() for word in _words(text)}
    recent = current.sample(min(len(current), MAX_TEXTS), random_state=0)
    return _frame(shuffled[half:], known), _frame(recent, known)


def _words(text: str) -> list[str]:
    return _WORD.findall(text[:_MAX_CHARACTERS].lower())


def _frame(texts: Iterable[str | None], known: set[str]) -> "pd.DataFrame":
    import pandas as pd

    rows = [[None] * len(STATISTICS) if t is None else _of_text(t, known) for t in texts]
    return pd.DataFrame(rows, columns=list(STATISTICS), dtype="float64")


def _of_text(text: str, known: set[str]) -> list[float]:
    cut, words = text[:_MAX_CHARACTERS], _words(text)
    size = len(cut) or 1
    unknown = sum(word not in known for word in words)
    capitals = sum(map(str.isupper, cut))
    digits = sum(map(str.isdigit, cut))
    ascii_characters = len(cut.encode("ascii", "ignore"))
    return [
        len(text),
        len(words),
        capitals / size,
        digits / size,
        1 - ascii_characters / size if cut else 0.0,
        unknown / (len(words) or 1),
    ]
