"""The latency distribution, and latency and throughput over time, as SVG or PNG."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestration.load_test.errors import LoadTestError
from orchestration.load_test.generator import Generator
from orchestration.load_test.plan import SECOND
from orchestration.load_test.recorder import Interval, Recorder, Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# No background, and colours that stand out from white as from a dark page (#0d1117).
TEXT, MEDIAN, TAIL, WORST, FAILED = "#7a828e", "#2f81f7", "#c2701f", "#a371d9", "#e5484d"
_MILLISECOND = 1_000_000
_DISTRIBUTION = (50.0, 90.0, 99.0, 99.9, 99.99, 99.999)


def write_plot(path: Path, finished: Generator, title: str) -> None:
    """Write the picture of a load that has ended; the suffix of the path says which kind."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # Text of an SVG stays text. Figure without pyplot: no window system, nothing global.
    with rc_context({"svg.fonttype": "none", "font.size": 11}):
        figure = Figure(figsize=(9, 10), layout="constrained")
        figure.suptitle(title, color=TEXT)
        distribution, latency, throughput = figure.subplots(3, 1)
        recorder = finished.recorder
        _distribution(distribution, recorder)
        seconds = max(0, finished.ended - recorder.start) / SECOND
        over_time = points(recorder.timeline, seconds)
        _latency(latency, over_time)
        _throughput(throughput, over_time)
        for axes in (distribution, latency, throughput):
            _style(axes)
        try:
            figure.savefig(path, transparent=True, dpi=120)
        except OSError as error:
            raise LoadTestError(f"--plot {path} cannot be written: {error}") from error


def _distribution(axes: "Axes", recorder: Recorder) -> None:
    """The percentile curve; its x axis stretches the tail: 1 / (1 - share) on a log scale."""
    count = max(1, recorder.latency.count)
    steps = [100 * (1 - 10 ** (-step / 50)) for step in range(251)]
    percents = [p for p in steps if 100 - p >= 100 / count] or [0.0]
    values = recorder.latency.percentiles(percents)
    axes.plot(_stretched(percents), [v / _MILLISECOND for v in values], color=MEDIAN)
    shown = [p for p in _DISTRIBUTION if 100 - p >= 100 / count]
    axes.set_xscale("log")
    axes.set_xticks([1.0, *_stretched(shown)], ["0 %", *(f"{p:g} %" for p in shown)])
    axes.minorticks_off()
    axes.set_title("Latency of successful answers")
    axes.set_xlabel("percentile")
    axes.set_ylabel("latency (ms)")


def _stretched(percents: list[float]) -> list[float]:
    return [100 / (100 - percent) for percent in percents]


def _latency(axes: "Axes", points: list["Point"]) -> None:
    from matplotlib.ticker import LogLocator

    times = [point.at for point in points]
    for name, percent, colour in (("max", 100, WORST), ("p99", 99, TAIL), ("p50", 50, MEDIAN)):
        values = [p.interval.latency.percentile(percent) / _MILLISECOND for p in points]
        axes.plot(times, values, color=colour, label=name, marker=".")
    axes.set_title("Latency over time")
    axes.set_xlabel("time since the warm-up (s)")
    axes.set_ylabel("latency (ms)")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.legend(labelcolor=TEXT, frameon=False, ncols=3)


def _throughput(axes: "Axes", points: list["Point"]) -> None:
    # The last interval may hardly have begun: a rate of it says nothing.
    shown = [point for point in points if point.seconds > points[0].seconds / 2]
    times = [point.at for point in shown]
    answered = [point.interval.latency.count / point.seconds for point in shown]
    failed = [point.interval.failed / point.seconds for point in shown]
    axes.plot(times, answered, color=MEDIAN, label="answered", marker=".")
    axes.plot(times, failed, color=FAILED, label="failed", marker=".")
    axes.set_title("Throughput over time")
    axes.set_xlabel("time since the warm-up (s)")
    axes.set_ylabel("requests/s")
    axes.set_ylim(bottom=0)
    axes.legend(labelcolor=TEXT, frameon=False, ncols=2)


@dataclass(frozen=True)
class Point:
    """An interval of the timeline, the time of its middle, and how long it lasted."""

    at: float
    seconds: float
    interval: Interval


def points(timeline: Timeline, seconds: float) -> list[Point]:
    """seconds: how long the load lasted; the last interval may have been cut short by its end."""
    width = timeline.width / SECOND
    found = []
    for number, interval in enumerate(timeline.intervals):
        start = number * width
        lasted = max(min(width, seconds - start), width / 1000)
        found.append(Point(start + lasted / 2, lasted, interval))
    return found


def _style(axes: "Axes") -> None:
    axes.grid(color=TEXT, alpha=0.25)
    axes.tick_params(colors=TEXT)
    for part in (axes.title, axes.xaxis.label, axes.yaxis.label):
        part.set_color(TEXT)
    for spine in axes.spines.values():
        spine.set_color(TEXT)
