"""Server-side apply as an API server does it: who set which field, and who may not.

Objects are taken apart into leaves by path. Lists are one leaf, but for those that Kubernetes
merges by name.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Path = tuple[Any, ...]
Leaves = dict[Path, Any]
_BY_NAME = frozenset({"containers", "initContainers", "env", "volumes"})


class ConflictsError(Exception):
    """found: manager and field of each."""

    def __init__(self, found: list[tuple[str, str]]) -> None:
        super().__init__(str(found))
        self.found = found


def leaves(item: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(item, dict) and item:
        for key, value in item.items():
            yield from leaves(value, (*path, key))
    elif isinstance(item, list) and item and path and path[-1] in _BY_NAME:
        for each in item:
            yield from leaves(each, (*path, ("name", each["name"])))
    else:
        yield path, item


def rebuilt(of: Mapping[Path, Any]) -> Any:
    """The object with these leaves."""
    root: dict[str, Any] = {}
    for path, value in of.items():
        place: Any = root
        for key, following in zip(path, (*path[1:], None), strict=True):
            fresh: Any = [] if isinstance(following, tuple) else {}
            content = value if following is None else fresh
            if isinstance(key, tuple):
                found = next((each for each in place if each["name"] == key[1]), None)
                if found is None:
                    found = {"name": key[1]}
                    place.append(found)
                place = found
            elif following is None:
                place[key] = content
            else:
                place = place.setdefault(key, content)
    return root


def written(path: Path) -> str:
    """As `kubectl` writes it: `.spec.containers[name="server"].image`."""
    return "".join(f'[name="{key[1]}"]' if isinstance(key, tuple) else f".{key}" for key in path)


def applied(
    now: Leaves, owners: dict[str, set[Path]], manager: str, wanted: Leaves, *, force: bool
) -> Leaves:
    """The leaves after an apply; `owners` is brought up to date. ConflictsError."""
    found = [
        (other, written(path))
        for other, paths in owners.items()
        if other != manager
        for path in sorted(paths & wanted.keys(), key=str)
        if now.get(path) != wanted[path]
    ]
    if found and not force:
        raise ConflictsError(found)
    for other, paths in owners.items():
        if other != manager:
            paths -= {path for path in wanted if now.get(path) != wanted[path]}
    others = set().union(*(paths for name, paths in owners.items() if name != manager))
    dropped = owners.get(manager, set()) - wanted.keys() - others
    owners[manager] = set(wanted)
    kept = {path: value for path, value in now.items() if path not in dropped}
    return kept | wanted
