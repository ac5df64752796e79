"""The rows of two samples in the same bins: deciles of the reference, or its categories."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from orchestration.monitoring.psi import Counts

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]

# Numbers with so few different values are categories: 0 and 1, stars, months.
FEW_VALUES = 20
_QUANTILES = np.linspace(0.1, 0.9, 9)
_MAX_CATEGORIES = 50
# Fewer rows in a bin, and the distribution of its share is none that χ² knows.
_ROWS_OF_A_BIN = 5


def number_counts(reference: Floats, current: Floats) -> tuple[Counts, Counts]:
    """Deciles of the reference, two bins for what lies outside of its range, one for NaN.

    reference: at least one finite number. Deciles and not equal widths: in those a single outlier
    would put all other rows into one bin, and hide whatever happened to them.
    """
    known = reference[~np.isnan(reference)]
    low, high = np.nextafter(known.min(), -np.inf), known.max()
    inner = np.unique(np.quantile(known, _QUANTILES, method="inverted_cdf"))
    edges = np.unique(np.concatenate([[low], inner, [high]]))
    return _by_edges(reference, edges), _by_edges(current, edges)


def _by_edges(values: Floats, edges: Floats) -> Counts:
    missing = np.isnan(values)
    places = np.searchsorted(edges, values[~missing], side="left")
    return np.append(np.bincount(places, minlength=len(edges) + 1), missing.sum())


def category_counts(
    reference: "pd.Series[Any]", current: "pd.Series[Any]"
) -> tuple[Counts, Counts]:
    """The reference's categories; one bin for rare and new ones together, one for missing ones.

    Both hold texts and None, as `columns.as_categories` makes them.
    """
    counted, seen = Counter(reference.dropna()), Counter(current.dropna())
    fewest = _ROWS_OF_A_BIN * max(1.0, len(reference) / max(1, len(current)))
    kept = [name for name, rows in counted.most_common(_MAX_CATEGORIES) if rows >= fewest]

    def counts(of: Counter[str], rows: int) -> Counts:
        named = [of[name] for name in kept]
        known = sum(of.values())
        return np.array([*named, known - sum(named), rows - known], dtype=np.int64)

    return counts(counted, len(reference)), counts(seen, len(current))
