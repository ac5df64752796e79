"""A regular expression for everything but some words, without lookahead, which RE2 has not."""

import re
from collections.abc import Collection


def other_than(words: Collection[str]) -> str:
    """Matches each text that is none of `words`; anchored, since not every proxy matches in full.

    Rules that are each for one of the words and one rule by this exclude each other: which of them
    counts does not hang on the order in which a proxy tries them.
    """
    return f"^{_rest(set(words))}$"


def _rest(words: set[str]) -> str:
    """What may follow where all of `words` begin here and none may be completed."""
    if not words - {""}:
        return ".+" if words else ".*"
    first = sorted({word[0] for word in words if word})
    longer = [
        re.escape(letter) + _rest({word[1:] for word in words if word[:1] == letter})
        for letter in first
    ]
    excluded = "".join(re.escape(letter) for letter in first)
    ways = "|".join([f"[^{excluded}].*", *longer])
    return f"(?:{ways})" if "" in words else f"(?:{ways})?"
