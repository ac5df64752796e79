"""A picture of what a release was judged by: both versions' intervals, and the limits."""

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from deploy.analysis.findings import Analysis, Finding, Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# No background, and colours that stand out from white as from a dark page (#0d1117).
TEXT, CANDIDATE, STABLE, LIMIT = "#7a828e", "#2f81f7", "#c2701f", "#e5484d"
# Of one metric, the nearest to their limit; of each step the nearest alone, if there are several.
_PARTS = 3


def analysis_svg(candidate_label: str, stable_label: str, analyses: Sequence[Analysis]) -> bytes:
    """One panel a metric, the worst parts first; several analyses are the steps of a release.

    A limit is drawn where the candidate's whole interval has to lie beyond for a rollback.
    ValueError without any finding.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    panels = _panels(analyses)
    if not panels:
        raise ValueError("there is nothing to draw: no analysis has a finding")
    rows = [len(panel) for panel in panels.values()]
    # Text of an SVG stays text. Figure without pyplot: no window system, nothing global.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "slipway", "font.size": 10}):
        figure = Figure(figsize=(9, 1 + 0.45 * sum(rows) + 0.7 * len(rows)), layout="constrained")
        figure.suptitle(f"version {candidate_label} beside version {stable_label}", color=TEXT)
        grid = figure.subplots(len(rows), 1, height_ratios=[n + 1 for n in rows], squeeze=False)
        for axes, (metric, panel) in zip(grid[:, 0], panels.items(), strict=True):
            _draw(axes, metric, panel)
        labels = (f"version {candidate_label}", f"version {stable_label}", "limit")
        handles = [
            axes.plot([], [], color=colour, marker=marker, label=label)[0]
            for colour, marker, label in zip(
                (CANDIDATE, STABLE, LIMIT), ("o", "o", "|"), labels, strict=True
            )
        ]
        figure.legend(
            handles=handles, loc="outside lower center", ncols=3, frameon=False, labelcolor=TEXT
        )
        picture = BytesIO()
        figure.savefig(picture, format="svg", transparent=True, metadata={"Date": None})
    return picture.getvalue()


def _panels(analyses: Sequence[Analysis]) -> dict[str, list[tuple[str, Finding]]]:
    """By metric, the rows from top to bottom with their names."""
    panels: dict[str, list[tuple[str, Finding]]] = {}
    for step, analysis in enumerate(analyses, 1):
        by_metric: dict[str, list[Finding]] = {}
        for found in analysis.findings:
            by_metric.setdefault(found.metric, []).append(found)
        for metric, parts in by_metric.items():
            worst = sorted(parts, key=lambda found: found.excess, reverse=True)
            worst = worst[: _PARTS if len(analyses) == 1 else 1]
            begin = f"step {step}: " if len(analyses) > 1 else ""
            panels.setdefault(metric, []).extend((begin + _name(found), found) for found in worst)
    return panels


def _name(found: Finding) -> str:
    return found.detail or ("absolute" if found.stable is None else "compared")


def _draw(axes: "Axes", metric: str, rows: list[tuple[str, Finding]]) -> None:
    for y, (_, found) in enumerate(rows):
        _interval(axes, y - 0.15, found.candidate, CANDIDATE)
        if found.stable is not None:
            _interval(axes, y + 0.15, found.stable, STABLE)
        for limit in _limits(found):
            axes.plot([100 * limit] * 2, [y - 0.35, y + 0.35], color=LIMIT, linewidth=2)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_title(metric, loc="left", color=TEXT)
    axes.xaxis.set_major_formatter("{x:g} %")
    axes.margins(x=0.03)
    axes.grid(axis="x", color=TEXT, alpha=0.25)
    axes.tick_params(colors=TEXT)
    for name, spine in axes.spines.items():
        spine.set_color(TEXT)
        spine.set_visible(name in ("left", "bottom"))


def _interval(axes: "Axes", y: float, found: Interval, colour: str) -> None:
    axes.plot([100 * found.low, 100 * found.high], [y, y], color=colour, linewidth=3)
    axes.plot([100 * found.share], [y], color=colour, marker="o", markersize=6)


def _limits(found: Finding) -> list[float]:
    """Where a candidate's interval that lies wholly beyond is past the limit."""
    if found.stable is None:
        return [found.limit]
    above, below = found.stable.high + found.limit, found.stable.low - found.limit
    return [limit for limit in ((below, above) if found.apart else (above,)) if 0 <= limit <= 1]
