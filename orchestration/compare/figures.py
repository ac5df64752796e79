"""The comparison's figures as texts, for a table in the terminal and one in the page."""

from collections.abc import Iterator
from typing import NamedTuple

from orchestration.compare.documents import Comparison, Speed


class Line(NamedTuple):
    """What it is, of A, of B, and B against A."""

    name: str
    a: str
    b: str
    ratio: str


def lines(found: Comparison) -> Iterator[Line]:
    """Quality, agreement, size, and speed by batch size."""
    for metric, value in found.a.quality.items():
        other = found.b.quality.get(metric)
        apart = "" if value is None or other is None else f"{other - value:+.4f}"
        yield Line(metric, _quality(value), _quality(other), apart)
    agreed = found.agreement
    if agreed.equal_labels is not None:
        yield Line("equal labels", "", "", f"{agreed.equal_labels:.2%}")
    if agreed.mean_difference is not None and agreed.max_difference is not None:
        of = "value" if agreed.equal_labels is None else "probability"
        yield Line(f"{of} apart, mean", "", "", f"{agreed.mean_difference:.2g}")
        yield Line(f"{of} apart, max", "", "", f"{agreed.max_difference:.2g}")
    sizes = found.a.size_bytes, found.b.size_bytes
    yield _pair("size (kB)", (sizes[0] / 1000, sizes[1] / 1000), f"{sizes[1] / sizes[0]:.2f}")
    for speed in found.speed:
        yield from _speed(speed)


def _quality(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _pair(name: str, values: tuple[float, float], ratio: str) -> Line:
    first, second = map(figure, values)
    return Line(name, first, second, ratio)


def figure(value: float) -> str:
    """Three digits, or a whole number."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def heads(found: Comparison) -> Line:
    """Of the table's columns."""
    a, b = found.a.label, found.b.label
    return Line("", a, b, f"{b} against {a}")


def _speed(speed: Speed) -> Iterator[Line]:
    low, middle, high = speed.ratio
    spread = f"{middle:.2f} ({low:.2f} to {high:.2f})"
    yield _pair(f"batch {speed.batch_size}: rows/s", speed.rows_per_second, spread)
    for name, pair in (("p50", speed.p50_ms), ("p99", speed.p99_ms)):
        yield _pair(f"batch {speed.batch_size}: {name} (ms)", pair, f"{pair[1] / pair[0]:.2f}")
