"""Whether an object on a cluster says what was applied."""

from typing import Any


def says(found: Any, wanted: Any) -> bool:
    """Whether all of `wanted` is in `found`, which may say more: defaults, and what others set."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            key in found and says(found[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(found, list) and len(found) == len(wanted) and all(map(says, found, wanted))
        )
    return bool(found == wanted)
