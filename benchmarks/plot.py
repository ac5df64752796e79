"""The plot: CPU a request of every server, as SVG."""

import math
from collections.abc import Sequence
from html import escape

Bar = tuple[str, float]
_WIDTH, _LEFT, _RIGHT, _BAR, _GAP = 760, 190, 70, 16, 6
_OURS, _THEIRS = "#1f6feb", "#9aa4b2"


def _text(x: float, y: float, text: str, attributes: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" {attributes}>{escape(text)}</text>'


def bars(title: str, groups: Sequence[tuple[str, Sequence[Bar]]], highlighted: str) -> str:
    """Horizontal bars on a logarithmic axis from 10 up, one group for each model."""
    values = [value for _, rows in groups for _, value in rows if value > 0]
    top = math.ceil(math.log10(max([100, *values])))
    scale = (_WIDTH - _LEFT - _RIGHT) / (top - 1)

    def x(value: float) -> float:
        return _LEFT + scale * (math.log10(max(value, 10)) - 1)

    parts, y = [_text(10, 22, title, 'font-weight="bold"')], 44.0
    for name, rows in groups:
        parts.append(_text(10, y + 12, name, 'font-weight="bold"'))
        y += 22
        for label, value in sorted(rows, key=lambda row: row[1]):
            colour = _OURS if label == highlighted else _THEIRS
            parts.append(_text(_LEFT - 8, y + 12, label, 'text-anchor="end"'))
            parts.append(
                f'<rect x="{_LEFT}" y="{y:.0f}" width="{x(value) - _LEFT:.0f}" height="{_BAR}" '
                f'fill="{colour}"/>'
            )
            parts.append(_text(x(value) + 6, y + 12, f"{value:,.0f}"))
            y += _BAR + _GAP
        y += 12
    for power in range(1, top + 1):
        at = x(10**power)
        line = f'<line x1="{at:.0f}" x2="{at:.0f}" y1="40" y2="{y:.0f}" stroke="#d0d7de"/>'
        parts.insert(0, line)
        parts.append(_text(at, y + 14, f"{10**power:,}", 'text-anchor="middle" fill="#57606a"'))
    height = y + 26
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" '
            'font-family="sans-serif" font-size="12">',
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            *parts,
            "</svg>\n",
        ]
    )
