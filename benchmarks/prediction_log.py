"""What the prediction log costs: `python -m benchmarks.prediction_log` writes its section of
docs/benchmarks.md.

First the logging alone, within one process. Then three servers of one model stand side by side,
without the log and with it, and take turns under the same load: what a noisy neighbour does hits
all of them. CPU is that of the whole server, so the writer's thread is in it.
"""

import argparse
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks import load, prediction_log_hook, report
from benchmarks.catalogue import OURS
from benchmarks.matrix import Sample, measured
from benchmarks.models import Model, train
from benchmarks.prediction_log_hook import Hook
from benchmarks.report import say
from benchmarks.servers import Running, Server, Start, clear, running
from tests.bentos.model_server.models import SPECIES, iris

_CONNECTIONS = 64
_KINDS = {
    "without": {},
    "best_effort": {"SLIPWAY_PREDICTION_DURABILITY": "best_effort"},
    "durable": {"SLIPWAY_PREDICTION_DURABILITY": "durable"},
}
LIMIT_US = 5.0


@dataclass(frozen=True)
class Cost:
    """CPU of the least disturbed round, and what it is more than without a log; the rest are
    medians of the rounds."""

    kind: str
    cpu_us: float
    extra_us: float
    p99_ms: float
    throughput: float
    failed: int


def _with(kind: str, folder: Path) -> Server:
    """Our server, with the variables of its kind of log."""

    def start(model: Model, port: int, place: Path) -> Start:
        made = OURS.start(model, port, place)
        log = {"SLIPWAY_PREDICTION_LOG": str(folder / kind)} if _KINDS[kind] else {}
        return replace(made, variables=made.variables | log | _KINDS[kind])

    return replace(OURS, name=kind, start=start)


def four_floats(folder: Path) -> tuple[Model, Server]:
    """Iris, and how our server is asked for it."""
    parts = iris()
    golden = parts.certificate.golden
    row = tuple(float(str(golden.rows[0][field.name])) for field in parts.contract.inputs)
    names = [field.name for field in parts.contract.inputs]
    shares = golden.single[0].probabilities or ()
    server = replace(
        OURS,
        request=lambda row: {"features": dict(zip(names, row, strict=True))},
        answer=lambda answer: [answer["probabilities"][label] for label in SPECIES],
    )
    return Model("iris", parts.write(folder), row, tuple(shares)), server


@contextmanager
def _all(model: Model, asked: Server, work: Path) -> Iterator[dict[str, Running]]:
    with ExitStack() as stack:
        up: dict[str, Running] = {}
        for kind in _KINDS:
            place = work / kind
            place.mkdir(parents=True)
            stack.callback(clear, place)
            server = replace(_with(kind, work / "log"), request=asked.request, answer=asked.answer)
            up[kind] = stack.enter_context(running(server, model, place))
            load.closed(up[kind].target, _CONNECTIONS, 1)  # warm-up
        yield up


def measure(model: Model, asked: Server, work: Path, rounds: int, seconds: int) -> list[Cost]:
    """One cost for each kind of log."""
    samples: dict[str, list[Sample]] = {kind: [] for kind in _KINDS}
    with _all(model, asked, work) as up:
        for number in range(rounds):
            for kind in _KINDS if number % 2 == 0 else reversed(_KINDS):
                samples[kind].append(measured(up[kind], _CONNECTIONS, seconds))
                say(f"{model.name} {kind}: {samples[kind][-1].cpu_us:.1f} µs")
    least = {kind: min(sample.cpu_us for sample in own) for kind, own in samples.items()}
    return [
        Cost(
            kind,
            least[kind],
            least[kind] - least["without"],
            median(sample.p99_ms for sample in own),
            median(sample.throughput for sample in own),
            sum(sample.failed for sample in own),
        )
        for kind, own in samples.items()
    ]


def lines(hooks: list[Hook], costs: dict[str, list[Cost]], before: float) -> list[str]:
    """The section."""
    rows = [
        [
            inputs,
            cost.kind.replace("_", " "),
            f"{cost.cpu_us:.1f}",
            "" if cost.kind == "without" else f"{cost.extra_us:+.1f}",
            f"{cost.p99_ms:.1f}",
            f"{cost.throughput:,.0f}",
            str(cost.failed),
        ]
        for inputs, found in costs.items()
        for cost in found
    ]
    head = ["inputs", "log", "CPU µs/request", "more", "p99 ms", "requests/s", "failed"]
    worst = max(hook.median_us for hook in hooks)
    verdict = "met" if worst <= LIMIT_US else "missed"
    alone = [[str(h.width), f"{h.median_us:.1f}", f"{h.least_us:.1f}"] for h in hooks]
    return [
        f"{report.hardware()}; load before: {before:.2f}.",
        "",
        "Logging one answer of one row, best effort, event loop and writer together:",
        "",
        *report.table(["floats", "CPU µs", "least disturbed"], alone),
        "",
        f"Target, at most {LIMIT_US:g} µs: {verdict} ({worst:.1f} µs).",
        "",
        f"Whole servers. One row a request, {_CONNECTIONS} "
        "connections as fast as they go, one worker, with keys and access log. CPU of the least "
        "disturbed round, of the server with all its threads; the rest are medians.",
        "",
        *report.table(head, rows),
    ]


def main() -> None:
    """Measure, and write the section."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prediction_log")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    wanted = parser.parse_args()
    before = os.getloadavg()[0]
    with TemporaryDirectory(prefix="slipway-log-") as folder:
        work = Path(folder).resolve()
        hooks = [prediction_log_hook.measure(width, work / f"{width}") for width in (4, 30)]
        say(f"logging alone: {hooks}")
        thirty = train(work / "models", ["lr"])["lr"]
        costs = {
            inputs: measure(model, asked, work / model.name, wanted.rounds, wanted.seconds)
            for inputs, (model, asked) in {
                "4 floats": four_floats(work / "iris-model"),
                "30 floats": (thirty, OURS),
            }.items()
        }
    section = lines(hooks, costs, before)
    if wanted.dry:
        print("\n".join(section))
    else:
        report.write("The prediction log", section)


if __name__ == "__main__":
    main()
