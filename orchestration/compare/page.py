"""The comparison as one HTML page that needs nothing else."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import numpy as np

from deploy.home import write_atomically
from orchestration.compare.answers import Floats
from orchestration.compare.documents import Comparison
from orchestration.compare.figures import Line, figure, heads, lines

MAX_POINTS = 800
_WIDTH, _NAME, _BAR, _ROW = 450, 95, 280, 18
_PLOT = 320

_STYLE = """
:root { --text: #1f2328; --dim: #656d76; --a: #4c78a8; --b: #f58518; --line: #d0d7de; --bg: #fff }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6edf3; --dim: #8b949e; --line: #30363d; --bg: #0d1117 }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--bg);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.05rem; margin-top: 1rem } p { color: var(--dim) }
table { border-collapse: collapse } td, th { padding: .2rem 1.2rem .2rem 0; text-align: right }
th { color: var(--dim); font-weight: normal } td:first-child, th:first-child { text-align: left }
tr { border-bottom: 1px solid var(--line) }
svg text { fill: var(--text); font-size: 12px } svg .dim { fill: var(--dim) }
.a { fill: var(--a) } .b { fill: var(--b) } .axis { stroke: var(--line) }
.columns { display: flex; flex-wrap: wrap; gap: 2rem } figure { margin: 0 }
"""


def write_page(folder: Path, found: Comparison, scores: tuple[Floats, Floats] | None) -> Path:
    """`<folder>/<model>-<A>-<B>.html`; an older one is replaced."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{found.model}-{found.a.label}-{found.b.label}.html"
    write_atomically(path, "".join(_page(found, scores)).encode())
    return path


def _page(found: Comparison, scores: tuple[Floats, Floats] | None) -> Iterator[str]:
    title = escape(f"{found.model}: {found.a.label} and {found.b.label}")
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
    yield f"<style>{_STYLE}</style><h1>{title}</h1>"
    yield f"<p>{escape(about(found))}</p>"
    yield _table(found)
    yield '<div class="columns">'
    yield _bars("Rows a second, one thread", found, [s.rows_per_second for s in found.speed])
    yield _bars("p50 of a call (ms)", found, [s.p50_ms for s in found.speed])
    yield _bars("p99 of a call (ms)", found, [s.p99_ms for s in found.speed])
    if scores is not None:
        yield _scatter(found, *scores)
    yield "</div></html>"


def about(found: Comparison) -> str:
    """The rows, and what counts as right."""
    left_out = f", {found.left_out} more are refused by one of them" if found.left_out else ""
    measured = {
        "labels": "Quality is measured against their labels.",
        "model": f"Quality is measured against what {found.truth_of} answers.",
        "none": "They tell nothing of quality: let the training run log reference/"
        "reference.parquet (its rows), or the rows that it held out with their labels.",
    }[found.truth]
    return f"{found.rows} rows: {found.source}{left_out}. {measured}"


def _table(found: Comparison) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads(found))
    body = "".join(_row(line) for line in lines(found))
    return f"<table><tr>{head}</tr>{body}</table>"


def _row(line: Line) -> str:
    return "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in line) + "</tr>"


def _bars(title: str, found: Comparison, pairs: Sequence[tuple[float, float]]) -> str:
    """Two bars for each batch size, long as its larger one."""
    parts, y = [], 0
    for speed, pair in zip(found.speed, pairs, strict=True):
        parts.append(f'<text x="0" y="{y + 22}">batch of {speed.batch_size}</text>')
        for name, value in zip("ab", pair, strict=True):
            width = _BAR * value / max(*pair, 1e-12)
            parts.append(
                f'<rect class="{name}" x="{_NAME}" y="{y + 4}" width="{width:.1f}" height="14"/>'
                f'<text x="{_NAME + width + 6:.1f}" y="{y + 15}">{figure(value)}</text>'
            )
            y += _ROW
        y += 10
    return _figure(title, found, f'width="{_WIDTH}" height="{y}"', "".join(parts))


def _figure(title: str, found: Comparison, size: str, inner: str) -> str:
    legend = "".join(
        f'<tspan dx="12" class="{name}">■</tspan> {escape(side.label)}'
        for name, side in (("a", found.a), ("b", found.b))
    )
    return (
        f"<figure><h2>{escape(title)}</h2>"
        f'<svg width="260" height="20"><text y="14">{legend}</text></svg><br>'
        f'<svg {size} role="img" aria-label="{escape(title)}">{inner}</svg></figure>'
    )


def _scatter(found: Comparison, a: Floats, b: Floats) -> str:
    """A point for each row (of several classes: its second one); equal answers lie on the line."""
    column = min(1, a.shape[1] - 1)
    step = max(1, len(a) // MAX_POINTS)
    x, y = a[::step, column], b[::step, column]
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    regression = found.agreement.equal_labels is None
    if not regression:
        low, high = 0.0, 1.0
    scale = _PLOT / ((high - low) or 1.0)
    points = "".join(
        f'<circle class="a" fill-opacity=".45" r="2.5" cx="{p:.1f}" cy="{q:.1f}"/>'
        for p, q in zip((x - low) * scale, _PLOT - (y - low) * scale, strict=True)
        if np.isfinite(p) and np.isfinite(q)
    )
    inner = (
        f'<g transform="translate(44,8)"><line class="axis" x1="0" y1="{_PLOT}" x2="{_PLOT}" '
        f'y2="0"/><path class="axis" fill="none" d="M0 0V{_PLOT}H{_PLOT}"/>{points}'
        f'<text class="dim" x="-4" y="10" text-anchor="end">{high:.3g}</text>'
        f'<text class="dim" x="-4" y="{_PLOT}" text-anchor="end">{low:.3g}</text>'
        f'<text class="dim" x="0" y="{_PLOT + 16}">{low:.3g}</text>'
        f'<text class="dim" x="{_PLOT}" y="{_PLOT + 16}" text-anchor="end">{high:.3g}</text>'
        f'<text x="{_PLOT / 2}" y="{_PLOT + 16}" text-anchor="middle">'
        f"{escape(found.a.label)}</text>"
        f'<text transform="translate(-14,{_PLOT / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(found.b.label)}</text></g>"
    )
    what = (
        "probability of the second class" if found.agreement.equal_labels is not None else "value"
    )
    size = f'width="{_PLOT + 60}" height="{_PLOT + 34}"'
    return (
        f"<figure><h2>Answers row by row: {what}</h2>"
        f'<svg {size} role="img" aria-label="answers row by row">{inner}</svg></figure>'
    )
