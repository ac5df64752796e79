"""Small pictures of scores for Dagster's metadata."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from deploy.drift_result import ColumnDrift
from orchestration.monitoring.quality import Reliability

_GREEN, _RED, _GREY = "#54a24b", "#e45756", "#888888"
_ROW, _LEFT, _BAR, _MOST = 18, 190, 300, 40


def _svg(width: int, height: int, parts: Sequence[str]) -> bytes:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="12">{"".join(parts)}</svg>'
    ).encode()


def scores_svg(columns: Sequence[ColumnDrift]) -> bytes:
    """One bar for each column, the highest first, with its limit as a line; at most 40."""
    shown = sorted(columns, key=lambda c: (c.drifted, c.score or 0.0), reverse=True)[:_MOST]
    largest = max([*(max(c.score or 0.0, c.limit) for c in shown), 1e-9])
    parts = []
    for number, found in enumerate(shown):
        y, score = number * _ROW, found.score if found.score is not None else largest
        colour = _RED if found.drifted else _GREEN
        text = "no value" if found.score is None else f"{found.score:.3f}"
        limit, name = _LEFT + _BAR * found.limit / largest, escape(found.name[:28])
        parts += [
            f'<text x="{_LEFT - 6}" y="{y + 13}" text-anchor="end">{name}</text>',
            f'<rect x="{_LEFT}" y="{y + 3}" width="{max(1.0, _BAR * score / largest):.1f}" '
            f'height="{_ROW - 6}" fill="{colour}"/>',
            f'<line x1="{limit:.1f}" x2="{limit:.1f}" y1="{y + 1}" y2="{y + _ROW - 1}" '
            f'stroke="{_GREY}" stroke-width="2"/>',
            f'<text x="{_LEFT + _BAR + 8}" y="{y + 13}">{text}</text>',
        ]
    return _svg(_LEFT + _BAR + 70, max(1, len(shown)) * _ROW, parts)


def reliability_svg(bins: Sequence[Reliability]) -> bytes:
    """How often answers of a confidence are right, against that confidence; the area of a point is
    its share of the answers."""
    size = 220
    whole = sum(item.rows for item in bins) or 1
    parts = [
        f'<rect width="{size}" height="{size}" fill="none" stroke="{_GREY}"/>',
        f'<line x1="0" y1="{size}" x2="{size}" y2="0" stroke="{_GREY}" stroke-dasharray="4"/>',
    ]
    for item in bins:
        radius = 3 + 15 * (item.rows / whole) ** 0.5
        parts.append(
            f'<circle cx="{size * item.confidence:.1f}" cy="{size * (1 - item.accuracy):.1f}" '
            f'r="{radius:.1f}" fill="#4c78a8" fill-opacity="0.7"/>'
        )
    return _svg(size, size, parts)
