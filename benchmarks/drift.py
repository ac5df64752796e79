"""One look at drift: 100,000 rows of 30 columns against as many, with Evidently's page.

`python -m benchmarks.drift [ROWS] [COLUMNS]` prints one line: seconds from the first import of
pandas and Evidently on, and the process's peak of resident memory.
"""

import resource
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_NUMBERS, _CATEGORIES = 0.8, 0.15  # the rest are texts


def _frame(rows: int, columns: int, seed: int, shift: float) -> Any:
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(seed)
    words = np.array([f"word{number}" for number in range(2000)])
    found: dict[str, Any] = {}
    for number in range(columns):
        name = f"x{number}"
        if number < columns * _NUMBERS:
            found[name] = rng.lognormal(shift * (number % 2), 1, rows)
        elif number < columns * (_NUMBERS + _CATEGORIES):
            found[name] = rng.choice(["north", "south", "east", "west"], rows)
        else:
            found[name] = [" ".join(row) for row in rng.choice(words, (rows, 12))]
    return pd.DataFrame(found)


def _kinds(columns: int) -> Any:
    return {
        f"x{number}": "number"
        if number < columns * _NUMBERS
        else "category"
        if number < columns * (_NUMBERS + _CATEGORIES)
        else "text"
        for number in range(columns)
    }


def main() -> None:
    """See the module."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    columns = int(sys.argv[2]) if len(sys.argv) > 2 else 30
    started = time.perf_counter()
    import numpy as np
    import pandas as pd

    from orchestration.monitoring.drift import Sample, drift
    from orchestration.monitoring.evidently_report import (
        keep_page,
        keep_snapshot,
        make_report,
        page,
    )
    from serving_config.monitoring import Drift

    imported = time.perf_counter() - started
    labels = np.random.default_rng(0).choice(["no", "yes"], rows)
    samples = [
        Sample(_frame(rows, columns, seed, shift), pd.Series(labels))
        for seed, shift in ((1, 0.0), (2, 0.5))
    ]
    begun = time.perf_counter()
    compared = drift(*samples, _kinds(columns), Drift())
    scored = time.perf_counter() - begun
    with tempfile.TemporaryDirectory() as name:
        snapshot = make_report(compared, 0.3)
        data = page(snapshot, compared.result, "bench")
        keep_page(Path(name), data, datetime.now(UTC))
        keep_snapshot(Path(name) / "workspace", "bench", snapshot)
    seconds = imported + time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"{rows:,} rows x {columns} columns: {seconds:.1f} s (imports of pandas {imported:.1f}, "
        f"scores {scored:.1f}), peak {peak / 1e6:,.0f} MB, page {len(data) / 1e6:.1f} MB; "
        f"{compared.result.reason}"
    )


if __name__ == "__main__":
    main()
