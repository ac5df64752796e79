"""Batch scoring against a bare loop of pyarrow and ONNX Runtime; its memory, and what it costs to
go on: `python -m benchmarks.batch [--rows N] [--large N] [--ray]` writes its section of
docs/benchmarks.md.

Every run is a process of its own; of the rates the median of alternating rounds counts. `--ray`
compares the ray engine with `map_batches` written by hand, too, both with the start of Ray.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks import report
from benchmarks.batch_runs import THREADS, write_rows
from benchmarks.models import BATCH_TITLES, train

_ROUNDS = 3
_LARGE_FILES = 10
_MEMORY_TARGET = 1.5e9
Verdict = tuple[str, str, str, str]


@dataclass(frozen=True)
class Run:
    """One child: seconds without imports and start-up; bytes: its peak of resident memory."""

    seconds: float
    bytes: int
    rows: int

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds


def run(kind: str, model: Path, rows: Path, work: Path) -> Run:
    """A way of scoring (see batch_runs), in a child."""
    command = [sys.executable, "-m", "benchmarks.batch_runs", kind, *map(str, (model, rows, work))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Run(**json.loads(done.stdout.splitlines()[-1]))


def rates(kinds: tuple[str, ...], model: Path, rows: Path, work: Path) -> dict[str, Run]:
    """The median run of each way, in changing order."""
    found: dict[str, list[Run]] = {kind: [] for kind in kinds}
    for number in range(_ROUNDS):
        for kind in kinds if number % 2 else kinds[::-1]:
            one = run(kind, model, rows, work / f"{kind}-{number}")
            report.say(f"{model.name} {kind}: {one.rate:,.0f} rows/s, {one.bytes / 1e6:,.0f} MB")
            found[kind].append(one)
    return {
        kind: sorted(runs, key=lambda one: one.seconds)[len(runs) // 2]
        for kind, runs in found.items()
    }


def compared(
    model: Path, rows: Path, work: Path, *, ray: bool
) -> tuple[list[Verdict], list[list[str]]]:
    """One model: verdicts, and the table of all ways."""
    kinds = ("bare", "local", *(("ray-by-hand", "ray") if ray else ()))
    found = rates(kinds, model, rows, work)
    title = BATCH_TITLES[model.name]
    share = found["local"].rate / found["bare"].rate
    verdicts = [
        (f"local, {title}, to the bare loop", f"{share:.2f} x", "≥ 0.80 x", _met(share >= 0.8))
    ]
    if ray:
        slower = found["ray-by-hand"].rate / found["ray"].rate
        verdicts.append(
            (f"ray, {title}, by hand to it", f"{slower:.2f} x", "≤ 1.50 x", _met(slower <= 1.5))
        )
    table = [
        [title, kind, f"{one.rate:,.0f}", f"{one.seconds:.2f}", f"{one.bytes / 1e6:,.0f}"]
        for kind, one in found.items()
    ]
    return verdicts, table


def _met(holds: bool) -> str:
    return "yes" if holds else "**no**"


def large(model: Path, folder: Path, rows: int) -> tuple[list[Verdict], str]:
    """Memory at one file and at all; and what it costs to go on with one part left."""
    few, many = folder / "few", folder / "many"
    write_rows(few, rows // _LARGE_FILES, 1)
    write_rows(many, rows, _LARGE_FILES)
    small = run("local", model, few, folder / "work-few")
    full = run("local", model, many, folder / "work-many")
    resumed = [
        run("resume", model, many, folder / f"work-resume-{number}") for number in range(_ROUNDS)
    ]
    cost = statistics.median(one.seconds for one in resumed) / full.seconds
    verdicts = [
        (
            f"peak memory at {rows:,} rows",
            f"{full.bytes / 1e9:.2f} GB",
            "≤ 1.50 GB",
            _met(full.bytes <= _MEMORY_TARGET),
        ),
        (
            f"the same to that at {rows // _LARGE_FILES:,} rows",
            f"{full.bytes / small.bytes:.2f} x",
            "≤ 1.20 x",
            _met(full.bytes <= 1.2 * small.bytes),
        ),
        (
            "going on with one part left, without that part, to a full run",
            f"{cost:.1%}",
            "≤ 2 %",
            _met(cost <= 0.02),
        ),
    ]
    said = (
        f"- {rows:,} rows in {_LARGE_FILES} files, {BATCH_TITLES[model.name]}: {full.seconds:.1f} s"
        f", {full.rate:,.0f} rows/s, {full.bytes / 1e6:,.0f} MB at most; with "
        f"{rows // _LARGE_FILES:,} rows {small.bytes / 1e6:,.0f} MB."
    )
    return verdicts, said


def main() -> None:
    """Measure, then write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--large", type=int, default=10_000_000)
    parser.add_argument("--ray", action="store_true")
    options = parser.parse_args()
    load = os.getloadavg()[2]
    verdicts: list[Verdict] = []
    table: list[list[str]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = train(folder / "models", tuple(BATCH_TITLES))
        write_rows(folder / "rows", options.rows, 1)
        for model in models.values():
            held, rows = compared(
                model.folder, folder / "rows", folder / model.name, ray=options.ray
            )
            verdicts += held
            table += rows
        held, said = large(models["gb"].folder, folder, options.large)
    lines = [
        f"`python -m benchmarks.batch{' --ray' if options.ray else ''}` on {report.hardware()}; "
        f"load average {load:.1f} before the run. {options.rows:,} rows of 30 doubles and a key, "
        f"in snappy, row groups of 125,000 rows; {THREADS} threads; medians of {_ROUNDS} rounds, "
        "each run a process; without imports, but with the start of Ray.",
        "",
        *report.table(("what", "measured", "target", "met"), [*verdicts, *held]),
        "",
        said,
        "",
        *report.table(("model", "how", "rows/s", "s", "MB"), table),
    ]
    report.write("Batch scoring", lines)


if __name__ == "__main__":
    main()
