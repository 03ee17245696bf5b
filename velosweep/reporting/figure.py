"""What all figures share: their form, their colours, their axes. A figure is data and layout as Plotly's JSON has
them, built as plain values, so that the same sweep gives the same bytes and the program needs no Plotly to start.

Strings that begin with `--` stand for colours of the page's style sheet; the page's script puts the
colour of the light or the dark theme in their place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from velosweep.statistics.comparison import Comparison
from velosweep.values import Verdict

Trace = dict[str, Any]

SERIES_COLOURS = ("--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7")
SERIES_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "pentagon", "hexagon", "star")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid")
VANILLA, SPECULATIVE, BAD, MUTED = "--vanilla", "--c1", "--bad", "--muted"


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One plot. `summary` says in words what it shows, for those who don't see it; `caption` how to read it."""

    id: str
    title: str
    caption: str
    summary: str
    data: Sequence[Trace]
    layout: Mapping[str, Any] = field(default_factory=dict)
    height: int = 360

    def as_json(self) -> dict[str, Any]:
        """What the page's script draws."""
        return {"data": list(self.data), "layout": {**self.layout, "height": self.height}}


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
    mode = "+".join(part for part, style in (("lines", line), ("markers", marker)) if style is not None)
    styles = {key: dict(style) for key, style in (("marker", marker), ("line", line)) if style is not None}
    hover = hover if "<extra>" in hover else f"{hover}<extra></extra>"
    return {"type": "scatter", "mode": mode, "name": name, "x": x, "y": y, "hovertemplate": hover, **styles, **more}


def axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis with a title."""
    return {"title": {"text": title}, "automargin": True, **more}


def n_draft_axis(values: Iterable[int]) -> dict[str, Any]:
    """n_draft with a tick at each value measured, as far as they fit."""
    ticks = sorted(set(values))
    exact = {"tickmode": "array", "tickvals": ticks} if len(ticks) <= 16 else {}
    return axis("n_draft", **exact)


def with_levels(layout: Mapping[str, Any], levels: Mapping[float, str], *, x_axis: bool = False) -> dict[str, Any]:
    """`layout` with named reference lines at values of the y axis (or x axis), and room for their names.

    The line at 1, where nothing is gained, is solid.
    """
    along, across = ("y", "x") if x_axis else ("x", "y")
    place: dict[str, Any] = (
        {"xref": "x", "y": 1, "yref": "paper", "yanchor": "bottom"}
        if x_axis
        else {"x": 1.005, "xref": "paper", "xanchor": "left", "yref": "y", "yanchor": "middle"}
    )
    shapes, notes = [], []
    for value, text in levels.items():
        line = {"color": MUTED, "width": 1.5, "dash": "solid" if value == 1 else "dot"}
        ends = {f"{along}ref": "paper", f"{along}0": 0, f"{along}1": 1, f"{across}ref": across}
        shapes.append(
            {"type": "line", **ends, f"{across}0": value, f"{across}1": value, "layer": "below", "line": line}
        )
        notes.append({"text": text, "showarrow": False, "font": {"color": MUTED, "size": 11}, **place, across: value})
    return {"margin": {"l": 48, "r": 72, "t": 24, "b": 44}, **layout, "shapes": shapes, "annotations": notes}


def error_bar(
    centres: Sequence[float], lows: Sequence[float | None], highs: Sequence[float | None], **more: Any
) -> dict[str, Any]:
    """An asymmetric error bar; nothing where there is no interval."""
    above = [0.0 if high is None else rounded(high - centre) for centre, high in zip(centres, highs, strict=True)]
    below = [0.0 if low is None else rounded(centre - low) for centre, low in zip(centres, lows, strict=True)]
    return {
        "type": "data",
        "symmetric": False,
        "array": above,
        "arrayminus": below,
        "thickness": 1.5,
        "width": 5,
    } | more


def series_colour(index: int) -> str:
    """The colour of the `index`th series."""
    return SERIES_COLOURS[index % len(SERIES_COLOURS)]


def series_symbol(index: int) -> str:
    """The shape of the `index`th series: with its colour no two of the first 49 are alike."""
    return SERIES_SYMBOLS[(index + index // len(SERIES_COLOURS)) % len(SERIES_SYMBOLS)]


def series_dash(index: int) -> str:
    """The line's dashes of the `index`th series."""
    return DASHES[(index + index // len(SERIES_COLOURS)) % len(DASHES)]


def verdict_marker(jobs: Sequence[Comparison], index: int) -> dict[str, Any]:
    """Markers of a series: hollow where the gain isn't sure, a cross where the result can't be used."""
    shape, colour = series_symbol(index), series_colour(index)
    symbols = [
        "x" if job.verdict is Verdict.INVALID else shape if job.verdict is Verdict.FASTER else f"{shape}-open"
        for job in jobs
    ]
    return {"size": 9, "color": colour, "symbol": symbols, "line": {"width": 2, "color": colour}}


def rounded(value: float, digits: int = 5) -> float:
    """Five significant digits: enough for any plot, and less to load."""
    return float(f"{value:.{digits}g}")
