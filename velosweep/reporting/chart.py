"""What all charts share: their form, their colours, their axes. A chart is data and layout as Plotly's JSON has
them, built as plain values, so that the same sweep gives the same bytes and the program needs no Plotly to start.

Strings that begin with `--` stand for colours of the page's style sheet; the page's script puts the
colour of the light or the dark theme in their place.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from velosweep.statistics.comparison import Comparison

Trace = dict[str, Any]

SERIES_COLOURS = ("--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7")
SERIES_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "pentagon", "hexagon", "star")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid")
VANILLA, SPECULATIVE, BAD, MUTED = "--vanilla", "--c1", "--bad", "--muted"


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """One plot. `summary` says in words what it shows, for those who don't see it; `caption` how to read it."""

    id: str
    title: str
    caption: str
    summary: str
    data: Sequence[Trace]
    layout: Mapping[str, Any]
    height: int = 360

    @property
    def drawing(self) -> dict[str, Any]:
        """What Plotly draws."""
        return {"data": self.data, "layout": {**self.layout, "height": self.height}}


def scatter(
    name: str,
    x: Sequence[Any],
    y: Sequence[Any],
    *,
    hover: str,
    marker: Mapping[str, Any] | None = None,
    line: Mapping[str, Any] | None = None,
    **more: Any,
) -> Trace:
    """Points as markers, joined by a line, or both. `hover`: Plotly's template of the box beside a point."""
    mode = "+".join(part for part, style in (("lines", line), ("markers", marker)) if style)
    styles = {key: style for key, style in (("marker", marker), ("line", line)) if style}
    hover = hover if "<extra>" in hover else f"{hover}<extra></extra>"
    return {"type": "scatter", "mode": mode, "name": name, "x": x, "y": y, "hovertemplate": hover, **styles, **more}


def axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis with a title."""
    return {"title": {"text": title}, "automargin": True, **more}


def n_draft_axis(jobs: Iterable[Comparison]) -> dict[str, Any]:
    """n_draft with a tick at each value measured, as far as they fit."""
    ticks = sorted({job.n_draft for job in jobs})
    return axis("n_draft", tickmode="array", tickvals=ticks) if len(ticks) <= 16 else axis("n_draft")


def with_levels(layout: Mapping[str, Any], levels: Mapping[float, str], *, across: str) -> dict[str, Any]:
    """`layout` with named reference lines at values of the axis `across` (x or y), and room for their names.

    The line at 1, where nothing is gained, is solid.
    """
    along, place = {
        "x": ("y", {"xref": "x", "y": 1, "yref": "paper", "yanchor": "bottom"}),
        "y": ("x", {"x": 1.005, "xref": "paper", "xanchor": "left", "yref": "y", "yanchor": "middle"}),
    }[across]
    shapes, notes = [], []
    for value, text in levels.items():
        line = {"color": MUTED, "width": 1.5, "dash": "solid" if value == 1 else "dot"}
        ends = {f"{along}ref": "paper", f"{along}0": 0, f"{along}1": 1, f"{across}ref": across}
        ends |= {f"{across}0": value, f"{across}1": value}
        shapes.append({"type": "line", **ends, "layer": "below", "line": line})
        notes.append({"text": text, "showarrow": False, "font": {"color": MUTED, "size": 11}, **place, across: value})
    return {"margin": {"l": 48, "r": 72, "t": 24, "b": 44}, **layout, "shapes": shapes, "annotations": notes}


def heat_trace(
    cells: Sequence[Sequence[Comparison | None]],
    value: Callable[[Comparison], float | None],
    text: Callable[[Comparison], str],
    hover: Callable[[Comparison], str],
    *,
    middle: float,
    where: str = "",
    **more: Any,
) -> Trace:
    """A heat map of rows of cells, whose colours lie alike on both sides of `middle`. `where`: said before `hover`."""
    values = [[None if cell is None else value(cell) for cell in row] for row in cells]
    reach = max((abs(one - middle) for row in values for one in row if one is not None), default=0.0) or 1.0

    def texts(of: Callable[[Comparison], str]) -> list[list[str]]:
        return [["" if cell is None else of(cell) for cell in row] for row in cells]

    return {
        "type": "heatmap", "z": values, "zmin": rounded(middle - reach), "zmax": rounded(middle + reach),
        "xgap": 2, "ygap": 2, "colorscale": [[0, "--low"], [0.5, "--mid"], [1, "--high"]],
        "colorbar": {"title": {"text": "×"}, "thickness": 12}, "text": texts(text), "texttemplate": "%{text}",
        "textfont": {"color": "--text"},  # Plotly's own choice is hard to read on what lies between the colours
        "customdata": texts(hover), "hovertemplate": f"{where}%{{customdata}}<extra></extra>", **more,
    }  # fmt: skip


def error_bar(
    centres: Sequence[float], lows: Sequence[float | None], highs: Sequence[float | None], **more: Any
) -> dict[str, Any]:
    """An asymmetric error bar; nothing where there is no interval."""
    above = [0.0 if high is None else rounded(high - centre) for centre, high in zip(centres, highs, strict=True)]
    below = [0.0 if low is None else rounded(centre - low) for centre, low in zip(centres, lows, strict=True)]
    bar = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1.5, "width": 5}
    return {**bar, **more}


def series_style(index: int) -> tuple[str, str, str]:
    """Colour, symbol and dashes of the `index`th series: no two of the first 49 have the same colour and symbol."""
    colour, shifted = index % len(SERIES_COLOURS), index + index // len(SERIES_COLOURS)
    return SERIES_COLOURS[colour], SERIES_SYMBOLS[shifted % len(SERIES_SYMBOLS)], DASHES[shifted % len(DASHES)]


def rounded(value: float) -> float:
    """Five significant digits: enough for any plot, and less to load."""
    return float(f"{value:.5g}")
