"""Arrow types from their names, as a plan keeps them: `str(type)` and back."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from orchestration.batch.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

_NESTED = re.compile(
    r"(?P<kind>list|large_list|list_view|large_list_view|fixed_size_list|struct|map|dictionary)<"
)
_PLAIN = re.compile(r"[a-z_0-9]+(<[a-z.]+>)?(\[[^\]]*\])?(\([0-9, -]*\))?")
_FIELD = re.compile(r"[^:]*: ")
_DICTIONARY_END = re.compile(r", indices=(?P<indices>[a-z0-9]+), ordered=(?P<ordered>[01])>")


def arrow_type(name: str) -> "pa.DataType":
    """The type that Arrow calls so. InputError for one that a plan cannot carry."""
    try:
        found, end = _parse(name, 0)
    except (ValueError, AttributeError, IndexError):
        found, end = None, 0
    if found is None or end != len(name) or str(found) != name:
        raise InputError(f"columns of type {name} cannot be carried over; cast or drop them")
    return found


def _parse(text: str, start: int) -> tuple[Any, int]:
    """The type that begins at `start`, and where it ends."""
    nested = _NESTED.match(text, start)
    if nested is not None:
        return _NESTED_TYPES[nested["kind"]](text, nested.end())
    plain = _PLAIN.match(text, start)
    if plain is None:
        raise ValueError(text)
    return _plain(plain.group()), plain.end()


def _plain(name: str) -> Any:
    import pyarrow as pa

    word, _, arguments = name.rstrip(")]").partition("(" if "(" in name else "[")
    if word.startswith("decimal"):
        precision, scale = arguments.split(", ")
        return getattr(pa, word)(int(precision), int(scale))
    if word == "timestamp" and ", tz=" in arguments:
        unit, _, zone = arguments.partition(", tz=")
        return pa.timestamp(unit, zone)
    if word == "fixed_size_binary":
        return pa.binary(int(arguments))
    if name == "extension<arrow.uuid>":
        return pa.uuid()
    return pa.type_for_alias(name)


def _field(text: str, start: int) -> tuple[Any, int]:
    """`name: type` or `name: type not null`."""
    import pyarrow as pa

    name = _FIELD.match(text, start)
    if name is None:
        raise ValueError(text)
    found, end = _parse(text, name.end())
    required = text.startswith(" not null", end)
    field = pa.field(name.group()[:-2], found, nullable=not required)
    return field, end + len(" not null") * required


def _list(make: str) -> Callable[[str, int], tuple[Any, int]]:
    def parse(text: str, start: int) -> tuple[Any, int]:
        import pyarrow as pa

        field, end = _field(text, start)
        return getattr(pa, make)(field), end + 1

    return parse


def _fixed_size_list(text: str, start: int) -> tuple[Any, int]:
    import pyarrow as pa

    field, end = _field(text, start)
    close = text.index("]", end)
    return pa.list_(field, int(text[end + 2 : close])), close + 1


def _struct(text: str, start: int) -> tuple[Any, int]:
    import pyarrow as pa

    fields = []
    while text[start] != ">":
        field, start = _field(text, start + 2 * text.startswith(", ", start))
        fields.append(field)
    return pa.struct(fields), start + 1


def _map(text: str, start: int) -> tuple[Any, int]:
    import pyarrow as pa

    key, end = _parse(text, start)
    value, end = _parse(text, end + 2)
    return pa.map_(key, value), end + 1


def _dictionary(text: str, start: int) -> tuple[Any, int]:
    import pyarrow as pa

    values, end = _parse(text, start + len("values="))
    rest = _DICTIONARY_END.match(text, end)
    if rest is None:
        raise ValueError(text)
    indices = pa.type_for_alias(rest["indices"])
    return pa.dictionary(indices, values, rest["ordered"] == "1"), rest.end()


_NESTED_TYPES: dict[str, Callable[[str, int], tuple[Any, int]]] = {
    "list": _list("list_"),
    "large_list": _list("large_list"),
    "list_view": _list("list_view"),
    "large_list_view": _list("large_list_view"),
    "fixed_size_list": _fixed_size_list,
    "struct": _struct,
    "map": _map,
    "dictionary": _dictionary,
}
