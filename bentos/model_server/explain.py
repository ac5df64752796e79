"""Why a request was refused: read again, slowly, into a list of fields, rows and complaints.

Never decides what is accepted (the codec does, with msgspec); it only finds duplicate keys and
the words for a refusal.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Any

import msgspec

from bentos.model_server.fields import Field, shown
from bentos.model_server.problems import (
    MAX_ERRORS,
    FieldError,
    Problem,
    clean,
    invalid,
    malformed,
)

# Where the complaint is about the request as a whole, as JSONPath writes it.
WHOLE_BODY = "$"
_PATH = re.compile(r" - at `(?P<path>.*)`$")


class Object(dict[str, Any]):
    """A JSON object that remembers which keys came twice."""

    duplicates: tuple[str, ...] = ()


def _pairs(pairs: list[tuple[str, Any]]) -> Object:
    result = Object(pairs)
    if len(result) != len(pairs):
        times = Counter(name for name, _ in pairs)
        found = (name for name, count in times.items() if count > 1)
        result.duplicates = tuple(sorted(islice(found, MAX_ERRORS)))
    return result


def _integer(digits: str) -> int | float:
    # Python refuses to parse 4,300 digits; nothing here is larger than float64's 309 anyway.
    return int(digits) if len(digits) <= 300 else float(digits)


def parse(body: bytes) -> Any:
    """The JSON value, with NaN and Infinity let through to be named; a 400 Problem if malformed."""
    if not body.strip():
        raise malformed("the request has no body; send a JSON object")
    try:
        text = body.decode("utf-8")
        return json.loads(text, object_pairs_hook=_pairs, parse_int=_integer)
    except UnicodeDecodeError as error:
        raise malformed(f"the body is not UTF-8: byte {error.start} is wrong") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise malformed(f"the body is not JSON: {error.msg} at {where}") from None
    except RecursionError:
        raise malformed("the body is nested too deeply") from None


def duplicates(value: object, row: int | None = None) -> list[FieldError]:
    """The keys that stand twice in an object."""
    names = value.duplicates if isinstance(value, Object) else ()
    return [FieldError(clean(name, 80), "stands twice in the request", row) for name in names]


def named(
    fields: Sequence[Field], value: Object, row: int | None, what: str = "an input of this model"
) -> list[FieldError]:
    """What is wrong with an object that has a value for each field. what: the fields are."""
    errors = duplicates(value, row)
    known = {field.name for field in fields}
    for field in fields:
        if field.name not in value:
            if field.required:
                errors.append(
                    FieldError(field.name, f"is missing; expected {field.expected()}", row)
                )
        elif message := field.complaint(value[field.name]):
            errors.append(FieldError(field.name, message, row))
    takes = ", ".join(field.name for field in fields[:20]) + (", …" if len(fields) > 20 else "")
    strangers = (name for name in value if name not in known)
    errors += [
        FieldError(clean(name, 80), f"is not {what}, which takes {takes or 'none'}", row)
        for name in islice(strangers, MAX_ERRORS + 1)
    ]
    return errors


def _positional(fields: Sequence[Field], value: list[Any], row: int | None) -> list[FieldError]:
    if len(value) != len(fields):
        message = f"expected {len(fields)} values in the contract's order, got {len(value)}"
        return [FieldError("instances", message, row)]
    pairs = zip(fields, value, strict=True)
    found = ((field.name, field.complaint(item)) for field, item in pairs)
    return [FieldError(name, message, row) for name, message in found if message]


def one(fields: Sequence[Field], document: Any, *, unwrapped: bool) -> list[FieldError]:
    """What is wrong with the document of `/predict`. unwrapped: inputs may stand at the top."""
    if not isinstance(document, Object):
        return [FieldError(WHOLE_BODY, f"expected an object with features, got {shown(document)}")]
    if "features" not in document:
        if unwrapped and any(field.name in document for field in fields):
            return named(fields, document, None)
        return [FieldError("features", "is missing; expected an object of the model's inputs")]
    errors = duplicates(document) + strangers(document, "features")
    features = document["features"]
    if isinstance(features, Object):
        return errors + named(fields, features, None)
    return [*errors, FieldError("features", f"expected an object, got {shown(features)}")]


def strangers(document: Object, *known: str, row: int | None = None) -> list[FieldError]:
    """The keys that are not known."""
    alone = f"{known[0]} alone" if len(known) == 1 else " and ".join(known)
    return [
        FieldError(clean(name, 80), f"is unknown; a request has {alone}", row)
        for name in islice(document, MAX_ERRORS + 1)
        if name not in known
    ]


def many(fields: Sequence[Field], document: Any) -> list[FieldError]:
    """What is wrong with the document of `/predict/batch`; ends after MAX_ERRORS."""
    if not isinstance(document, Object):
        return [FieldError(WHOLE_BODY, f"expected an object with instances, got {shown(document)}")]
    errors = duplicates(document) + strangers(document, "instances")
    instances = document.get("instances")
    if "instances" not in document:
        return [*errors, FieldError("instances", "is missing; expected an array of rows")]
    if not isinstance(instances, list):
        return [*errors, FieldError("instances", f"expected an array, got {shown(instances)}")]
    if not instances:
        return [*errors, FieldError("instances", "is empty; expected at least one row")]
    for index, row in enumerate(instances):
        errors += _row(fields, row, index, positional=isinstance(instances[0], list))
        if len(errors) > MAX_ERRORS:
            break
    return errors


def _row(fields: Sequence[Field], row: object, index: int, *, positional: bool) -> list[FieldError]:
    if isinstance(row, Object) and not positional:
        return named(fields, row, index)
    if isinstance(row, list) and positional:
        return _positional(fields, row, index)
    if isinstance(row, Object | list):
        return [FieldError("instances", "mixes objects and arrays; use one of them", index)]
    message = f"expected an object or an array of values, got {shown(row)}"
    return [FieldError("instances", message, index)]


def in_brief(refusal: BaseException) -> Problem:
    """msgspec's own words for its first complaint: of the two ways to read a request, those of
    the one that came further."""
    if isinstance(refusal, RecursionError):
        return malformed("the body is nested too deeply")
    if not isinstance(refusal, msgspec.ValidationError):
        return malformed(f"the body cannot be read: {refusal}")
    tries = [e for e in (refusal.__context__, refusal) if isinstance(e, msgspec.ValidationError)]
    found = [(_PATH.search(str(error)), str(error)) for error in tries]
    paths = [(match["path"] if match else WHOLE_BODY, text) for match, text in found]
    path, text = max(paths, key=lambda pair: len(pair[0]))
    return invalid([FieldError(clean(path, 80), clean(_PATH.sub("", text), 200))])
