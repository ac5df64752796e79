"""Small pictures for Dagster's metadata."""

import base64
from collections.abc import Sequence
from xml.sax.saxutils import escape

from deploy.events import Event

_COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2")
_BAR, _HEIGHT, _TOP = 24, 100, 20


def markdown_image(title: str, svg: bytes) -> str:
    """Markdown that shows the picture without a file or a server."""
    return f"![{title}](data:image/svg+xml;base64,{base64.b64encode(svg).decode()})"


def weights_svg(events: Sequence[Event]) -> bytes:
    """One bar for each event, in order: how the traffic is shared between the versions."""
    labels = list(dict.fromkeys(live.label for event in events for live in event.live))
    colours = {label: _COLOURS[i % len(_COLOURS)] for i, label in enumerate(labels)}
    parts = [
        f'<text x="{4 + i * 60}" y="13" fill="{colours[label]}">{escape(label)}</text>'
        for i, label in enumerate(labels)
    ]
    for column, event in enumerate(events):
        top = float(_TOP)
        for live in event.live:
            height = _HEIGHT * live.weight / 100
            parts.append(
                f'<rect x="{4 + column * _BAR}" y="{top:g}" width="{_BAR - 3}" '
                f'height="{height:g}" fill="{colours[live.label]}"/>'
            )
            top += height
    width = 8 + max(len(events) * _BAR, len(labels) * 60)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{_TOP + _HEIGHT + 4}" '
        f'font-family="sans-serif" font-size="12" font-weight="bold">{"".join(parts)}</svg>'
    ).encode()
