"""Two samples to compare."""

from typing import Any

import numpy as np
import pandas as pd

from orchestration.monitoring.drift import Sample

Generator = np.random.Generator
KINDS: Any = {"amount": "number", "visits": "number", "region": "category", "premium": "category"}


def frame(rng: Generator, rows: int, shift: float = 0.0) -> pd.DataFrame:
    """shift: 0 is the reference's distribution; at 1 every column is another."""
    regions = np.array([0.5, 0.3, 0.2]) * (1 - shift) + np.array([0.0, 0.1, 0.9]) * shift
    return pd.DataFrame(
        {
            "amount": rng.lognormal(3 + shift, 1, rows),
            "visits": rng.poisson(2 + 3 * shift, rows),
            "region": rng.choice(["north", "south", "west"], rows, p=regions),
            "premium": rng.random(rows) < 0.2 + 0.5 * shift,
        }
    )


def sample(rng: Generator, rows: int, shift: float = 0.0) -> Sample:
    answers = pd.Series(rng.choice(["no", "yes"], rows, p=[0.7 - 0.5 * shift, 0.3 + 0.5 * shift]))
    return Sample(frame(rng, rows, shift), answers)


def texts(rng: Generator, rows: int, shift: float = 0.0) -> "pd.Series[Any]":
    known = ["offer", "meeting", "report", "hello", "invoice", "today", "see", "you"]
    strange = ["WINNER", "ÜBERWEISUNG", "777", "crypto", "aaaaa"]

    def text() -> str:
        words = rng.choice(known, rng.integers(3, 20)).tolist()
        return " ".join(rng.choice(strange) if rng.random() < shift else w for w in words)

    return pd.Series([text() for _ in range(rows)])
