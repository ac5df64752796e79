"""The population stability index (PSI) of two counted samples, and what of it is chance.

    PSI = Σ (p - q) ln(p / q)        p, q: the shares of a bin in the current and reference rows

Without drift, of n current and m reference rows in B bins, PSI is about (1/n + 1/m) χ² with B - 1
degrees of freedom (Yurdakul, "Statistical Properties of Population Stability Index", Western
Michigan University, 2018, https://scholarworks.wmich.edu/dissertations/3208). Its expectation,
(B - 1)(1/n + 1/m), is subtracted: in small windows it alone is as large as the usual limits. And
no limit is below what chance exceeds once in a thousand times:

    score = max(0, PSI - (B - 1)(1/n + 1/m))
    limit = max(threshold, (1/n + 1/m)(χ²₀.₉₉₉ - (B - 1)))
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
# How often a column that did not drift may be called drifted, where the threshold is low.
_FALSE_ALARMS = 0.001


@dataclass(frozen=True)
class Score:
    """score, limit: see the module; psi: with the part that is chance."""

    score: float
    limit: float
    psi: float

    @property
    def drifted(self) -> bool:
        """Whether the limit is passed."""
        return self.score > self.limit


def psi_score(reference: Counts, current: Counts, threshold: float, tests: int = 1) -> Score:
    """Of the rows in each bin, neither sample empty; a bin that both leave empty does not count.

    A bin that one of them leaves empty counts as half a row there. tests: how many scores say the
    same thing together; the false alarms are shared among them (Bonferroni).
    """
    from scipy.stats import chi2

    used = (reference + current) > 0
    m, n = int(reference.sum()), int(current.sum())
    q, p = np.maximum(reference[used], 0.5) / m, np.maximum(current[used], 0.5) / n
    psi = float(((p - q) * np.log(p / q)).sum())
    freedom, scale = int(used.sum()) - 1, 1 / n + 1 / m
    if freedom < 1:
        return Score(0.0, threshold, psi)
    beyond_chance = scale * (float(chi2.isf(_FALSE_ALARMS / tests, freedom)) - freedom)
    return Score(max(0.0, psi - freedom * scale), max(threshold, beyond_chance), psi)
