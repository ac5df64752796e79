"""A small picture of what was predicted."""

from xml.sax.saxutils import escape

from orchestration.batch.documents import Distribution

_COLOUR = "#4c78a8"
_ROW, _LEFT, _BAR, _MOST, _LONGEST = 18, 150, 300, 20, 22
_WIDTH, _HEIGHT = 6, 120


def distribution_svg(distribution: Distribution) -> bytes:
    """Of a classification one bar for each label, the commonest first, at most 20; of a regression
    a histogram."""
    return _bars(distribution) if distribution.labels else _histogram(distribution)


def _bars(distribution: Distribution) -> bytes:
    counted = sorted(distribution.labels.items(), key=lambda item: -item[1])
    others = len(counted) - _MOST
    whole = sum(distribution.labels.values()) or 1
    parts = []
    for number, (label, rows) in enumerate(counted[:_MOST]):
        y = number * _ROW
        parts += [
            f'<text x="{_LEFT - 6}" y="{y + 13}" text-anchor="end">{_name(label)}</text>',
            f'<rect x="{_LEFT}" y="{y + 3}" width="{max(1.0, _BAR * rows / whole):.1f}" '
            f'height="{_ROW - 6}" fill="{_COLOUR}"/>',
            f'<text x="{_LEFT + _BAR + 8}" y="{y + 13}">{rows:,} ({rows / whole:.1%})</text>',
        ]
    if others > 0:
        parts.append(
            f'<text x="{_LEFT}" y="{_MOST * _ROW + 13}">and {others:,} other labels</text>'
        )
    return _svg(_LEFT + _BAR + 150, min(len(counted), _MOST + 1) * _ROW, parts)


def _name(label: str) -> str:
    """Its beginning and its end; XML takes no control characters."""
    text = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in label
    )
    return escape(text if len(text) <= _LONGEST else f"{text[:11]}…{text[-10:]}")


def _histogram(distribution: Distribution) -> bytes:
    most = max(distribution.counts, default=0) or 1
    parts = [
        f'<rect x="{number * _WIDTH}" y="{_HEIGHT - _HEIGHT * count / most:.1f}" '
        f'width="{_WIDTH - 1}" height="{_HEIGHT * count / most:.1f}" fill="{_COLOUR}"/>'
        for number, count in enumerate(distribution.counts)
    ]
    width = max(200, len(distribution.counts) * _WIDTH)
    if distribution.edges:
        least, greatest = distribution.edges[0], distribution.edges[-1]
        parts.append(f'<text x="0" y="{_HEIGHT + 14}">{least:.6g}</text>')
        if greatest > least:
            text = f'<text x="{width}" y="{_HEIGHT + 14}" text-anchor="end">{greatest:.6g}</text>'
            parts.append(text)
    return _svg(width, _HEIGHT + 18, parts)


def _svg(width: int, height: int, parts: list[str]) -> bytes:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="#ffffff"/>{"".join(parts)}</svg>'
    ).encode()
