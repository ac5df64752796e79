"""Columns as they can be compared, and what is wrong with those that cannot."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bentos.model_server.contract import Contract, Input
from deploy.drift_result import Kind, Note
from orchestration.monitoring.bins import FEW_VALUES, Floats

if TYPE_CHECKING:
    import pandas as pd

_MAX_NAME = 60
# What a browser would read as markup: values come from clients, and end up in an HTML page.
_HARMLESS = str.maketrans("<>&", "[]+")
# A string column with more different values than that among its rows is a text.
_TEXT_SHARE, _TEXT_VALUES = 0.5, 50


@dataclass(frozen=True)
class Pair:
    """One column of both samples: floats with NaN, or texts with None (category and text).

    kind: text and category as the contract has them; a number of few values is a category.
    """

    name: str
    kind: Kind
    reference: Any
    current: Any
    notes: tuple[Note, ...] = ()


def column_kinds(contract: Contract, hidden: frozenset[str] = frozenset()) -> dict[str, Kind]:
    """The kind of each input; hidden: what the log does not hold as it was sent."""
    return {field.name: _kind(field) for field in contract.inputs if field.name not in hidden}


def _kind(field: Input) -> Kind:
    if field.dtype == "string":
        return "text" if field.text is not None and field.categories is None else "category"
    return "category" if field.dtype == "bool" or field.categories is not None else "number"


def column(frame: "pd.DataFrame", name: str) -> "pd.Series[Any]":
    """The column, the first of two that have the same name, with rows counted anew."""
    found: Any = frame.loc[:, frame.columns == name].iloc[:, 0]
    series: pd.Series[Any] = found.reset_index(drop=True)
    return series


def pair(name: str, kind: Kind, reference: "pd.Series[Any]", current: "pd.Series[Any]") -> Pair:
    """The column's two samples as one kind, with what was found about them."""
    if kind == "number":
        return _numbers(name, reference, current)
    before, now = as_categories(reference), as_categories(current)
    different = before.nunique()
    strings = reference.map(lambda value: isinstance(value, str)).any()
    if kind == "category" and strings and different > max(_TEXT_VALUES, _TEXT_SHARE * len(before)):
        kind = "text"
    notes = _mistyped(name, current, _is_string) if kind == "text" else ()
    return Pair(name, kind, before, now, (*notes, *_emptiness(name, before, now)))


def _numbers(name: str, reference: "pd.Series[Any]", current: "pd.Series[Any]") -> Pair:
    import pandas as pd

    before, now = as_numbers(reference), as_numbers(current)
    notes = (
        *_mistyped(name, current, _is_number),
        *_emptiness(name, pd.Series(before), pd.Series(now)),
    )
    if len(np.unique(before[~np.isnan(before)])) <= FEW_VALUES:
        texts = [as_categories(pd.Series(values)) for values in (before, now)]
        return Pair(name, "category", texts[0], texts[1], notes)
    return Pair(name, "number", before, now, notes)


def as_numbers(series: "pd.Series[Any]") -> Floats:
    """Floats; NaN for what is none."""
    if _is_numeric(series):
        return series.to_numpy(dtype="float64", na_value=np.nan)
    return np.array([_float(value) for value in series.astype(object)], dtype="float64")


def _is_numeric(series: "pd.Series[Any]") -> bool:
    from pandas.api import types

    return types.is_numeric_dtype(series) and not types.is_complex_dtype(series)


def _float(value: Any) -> float:
    if not _is_number(value):
        return math.nan
    try:
        return float(value)
    except OverflowError:  # an int beyond 1e308
        return math.inf if value > 0 else -math.inf


def as_categories(series: "pd.Series[Any]") -> "pd.Series[Any]":
    """Texts, the same for true, 1 and 1.0; None for what is missing."""
    import pandas as pd

    try:
        names = {value: _name(value) for value in series.unique()}
        texts = [names[value] for value in series]
    except (TypeError, KeyError):  # not hashable, or not equal to itself
        texts = [_name(value) for value in series]
    return pd.Series(texts, dtype=object)


def _name(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if _is_missing(value):
        return None
    return f"{_float(value):.12g}" if _is_number(value) else str(value)


def label(value: str) -> str:
    """A category's name as it is shown: short, and without markup."""
    return value[:_MAX_NAME].translate(_HARMLESS)


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float | np.bool_ | np.number) and not isinstance(
        value, complex | np.complexfloating
    )


def _is_string(value: Any) -> bool:
    return isinstance(value, str)


def _is_missing(value: Any) -> bool:
    import pandas as pd

    if value is None or value is pd.NA or value is pd.NaT:
        return True
    return isinstance(value, float) and math.isnan(value)


def _mistyped(name: str, series: "pd.Series[Any]", fits: Callable[[Any], bool]) -> tuple[Note, ...]:
    if fits is _is_number and _is_numeric(series):
        return ()
    wrong = sum(not fits(value) and not _is_missing(value) for value in series.astype(object))
    if not wrong:
        return ()
    return (Note(name, "error", f"{wrong} of {len(series)} values have the wrong type"),)


def _emptiness(
    name: str, reference: "pd.Series[Any]", current: "pd.Series[Any]"
) -> tuple[Note, ...]:
    if current.isna().all():
        return (Note(name, "error", "has no value in any row of the window"),)
    if current.nunique() == 1 and reference.nunique() > 1:
        return (Note(name, "warning", "has the same value in every row of the window"),)
    return ()


def strangers(
    kinds: Mapping[str, Kind], reference: "pd.DataFrame", current: "pd.DataFrame"
) -> tuple[Note, ...]:
    """Columns that are in one of the two only, or twice in one."""
    notes = []
    for name in map(str, current.columns):
        if name not in kinds:
            notes.append(Note(name, "info", "is new: the reference does not know it"))
    for name in kinds:
        if name not in reference.columns:
            notes.append(Note(name, "warning", "is not in the reference: it cannot be compared"))
        elif name not in current.columns:
            notes.append(Note(name, "error", "is missing in the window"))
        for where, frame in (("reference", reference), ("window", current)):
            if int((frame.columns == name).sum()) > 1:
                notes.append(Note(name, "warning", f"is in the {where} twice: the first counts"))
    return tuple(dict.fromkeys(notes))
