"""PNG and SVG of the page's main figure, for slides. Needs matplotlib (extra `plots`): no browser, no window."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from velosweep.errors import ConfigError, install_extra
from velosweep.records import SweepRecord
from velosweep.reporting.figure import Figure, Trace
from velosweep.reporting.html import template_text
from velosweep.reporting.recommendation import recommend
from velosweep.reporting.speedup_figures import main_figure
from velosweep.reporting.wording import target_of, whole_jobs
from velosweep.statistics.comparison import Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("png", "svg")
_MARKERS = {
    "circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "pentagon": "p", "hexagon": "h", "star": "*",
    "x": "X", "line-ns": "|",
}  # fmt: skip
_DASHES = {"dash": "--", "dot": ":"}


def require_matplotlib(find: Callable[[str], object] = find_spec) -> None:
    """Raises ConfigError where `find` sees no matplotlib."""
    if find("matplotlib") is None:
        raise ConfigError("report.plots=true needs matplotlib, which is not installed", remedy=install_extra("plots"))


def main_plots(comparisons: Iterable[Comparison], record: SweepRecord) -> dict[str, bytes]:
    """The main figure by format (`png`, `svg`); the same input gives the same bytes. Empty where nothing was measured.

    Raises ConfigError where matplotlib is not installed.
    """
    rows = list(comparisons)
    jobs = whole_jobs(rows)
    main = main_figure(jobs, rows, target_of(record, jobs[0].job_id)) if jobs else None
    if main is None:
        return {}
    require_matplotlib()
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    # The hash salt makes the SVG's ids, and so its bytes, follow from the content alone.
    with mpl.rc_context({"svg.hashsalt": record.sweep_id, "font.size": 11, "svg.fonttype": "path"}):
        canvas = Canvas(figsize=(8, 4.5), dpi=200, layout="constrained")
        axes = canvas.add_subplot()
        _draw(axes, main)
        found = recommend(rows, record)
        if len(found) == 1:
            axes.set_title(_literal(found[0].headline), loc="left", fontsize=12, fontweight="bold", wrap=True)
        return {form: _saved(canvas, form) for form in FORMATS}


def _saved(canvas: Any, form: str) -> bytes:
    out = io.BytesIO()
    canvas.savefig(out, format=form, metadata={"Date": None} if form == "svg" else {"Software": "velosweep"})
    return out.getvalue()


def _literal(text: str) -> str:
    """`text` as matplotlib shows it: a dollar sign would begin a formula."""
    return text.replace("$", r"\$")


def _draw(axes: Axes, figure: Figure) -> None:
    """The figure's scatter traces, reference lines and axes, as the page draws them in its light theme."""
    colours = _colours()
    rows = figure.layout["yaxis"].get("categoryarray") or list(
        dict.fromkeys(label for trace in figure.data for label in trace["y"])
    )
    categories = {label: place for place, label in enumerate(rows)}
    by_category = figure.layout["yaxis"].get("type") == "category"
    for trace in figure.data:
        y = [categories[label] for label in trace["y"]] if by_category else trace["y"]
        _draw_trace(axes, trace, y, colours)
    if by_category:
        axes.set_yticks(list(categories.values()), [_literal(label) for label in categories])
        axes.set_ylim(-0.8, len(categories) - 0.2)
    for shape in figure.layout.get("shapes", ()):
        line = axes.axhline if shape["yref"] == "y" else axes.axvline
        style = _DASHES.get(shape["line"]["dash"], "-")
        line(shape["y0"] if shape["yref"] == "y" else shape["x0"], color="#555555", linewidth=1, linestyle=style)
    if "tickvals" in figure.layout["xaxis"]:
        axes.set_xticks(figure.layout["xaxis"]["tickvals"])
    if figure.layout["xaxis"].get("rangemode") == "tozero":
        axes.set_xlim(left=0)
    axes.set_xlabel(figure.layout["xaxis"]["title"]["text"])
    axes.set_ylabel(figure.layout["yaxis"].get("title", {}).get("text", ""))
    if figure.layout.get("showlegend", len(figure.data) > 1):
        axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)


def _draw_trace(axes: Axes, trace: Trace, y: Sequence[float], colours: Mapping[str, str]) -> None:
    marker, line = trace.get("marker", {}), trace.get("line", {})
    colour = colours[marker.get("color") or line["color"]]
    label = _literal(trace["name"])
    if line:
        style = _DASHES.get(line.get("dash", ""), "-")
        axes.plot(trace["x"], y, color=colour, linestyle=style, linewidth=line.get("width", 1.5), label=label)
        label = ""
    bars: dict[str, Any] = {f"{side}err": _limits(trace[f"error_{side}"]) for side in "xy" if f"error_{side}" in trace}
    if bars:
        axes.errorbar(trace["x"], y, **bars, fmt="none", ecolor=colour, capsize=3)
    symbols = marker.get("symbol", ())
    if isinstance(symbols, str):
        symbols = [symbols] * len(y)
    for place, symbol in enumerate(symbols):
        face = "white" if symbol.endswith("-open") else colour
        shape, size = _MARKERS[symbol.removesuffix("-open")], 0.8 * marker["size"]
        axes.plot(
            trace["x"][place], y[place], marker=shape, color=colour, markerfacecolor=face, markersize=size,
            alpha=marker.get("opacity", 1), linestyle="", label="" if place else label,
        )  # fmt: skip


def _limits(bar: Mapping[str, Any]) -> list[list[float]]:
    """Lengths of an error bar below and above."""
    return [bar.get("arrayminus", bar["array"]), bar["array"]]


def _colours() -> dict[str, str]:
    """The style sheet's colours by name; the light theme's come first there."""
    found = re.findall(r"(--[a-z0-9-]+): (#[0-9a-f]{6})", template_text("report.css"))
    return dict(reversed(found))
