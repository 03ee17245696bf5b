"""PNG and SVG of the page's main chart, for slides. Needs matplotlib (extra `plots`): no browser, no window."""

import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from velosweep.errors import ConfigError, install_extra
from velosweep.records import SweepRecord
from velosweep.reporting.chart import Chart, Trace
from velosweep.reporting.recommendation import recommend
from velosweep.reporting.speedup_charts import main_chart
from velosweep.reporting.wording import target_of, whole_jobs
from velosweep.statistics.comparison import Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_METADATA = {"png": {"Software": "velosweep"}, "svg": {"Date": None}}
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
    """The main chart by format (`png`, `svg`); the same input gives the same bytes. Empty where nothing was measured.

    Raises ConfigError where matplotlib is not installed.
    """
    rows = list(comparisons)
    jobs = whole_jobs(rows)
    main = main_chart(jobs, rows, target_of(record, jobs[0].job_id)) if jobs else None
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
        plots = {}
        for form, metadata in _METADATA.items():
            out = io.BytesIO()
            canvas.savefig(out, format=form, metadata=metadata)
            plots[form] = out.getvalue()
        return plots


def _literal(text: str) -> str:
    """`text` as matplotlib shows it: a dollar sign would begin a formula."""
    return text.replace("$", r"\$")


def _draw(axes: "Axes", chart: Chart) -> None:
    """The chart's scatter traces, reference lines and axes, as the page draws them in its light theme."""
    x_axis, y_axis = chart.layout["xaxis"], chart.layout["yaxis"]
    places: dict[str, int] = {}
    if y_axis.get("type") == "category":
        labels = y_axis.get("categoryarray") or [label for trace in chart.data for label in trace["y"]]
        places = {label: place for place, label in enumerate(dict.fromkeys(labels))}
        axes.set_yticks(list(places.values()), [_literal(label) for label in places])
        axes.set_ylim(-0.8, len(places) - 0.2)
    from velosweep.reporting.html import template_text  # imports SciPy, which is done while servers load

    # The style sheet's colours by name: the light theme's come first there, and so last here.
    colours = dict(reversed(re.findall(r"(--[a-z0-9-]+): (#[0-9a-f]{6})", template_text("report.css"))))
    for trace in chart.data:
        _draw_trace(axes, trace, [places.get(y, y) for y in trace["y"]], colours)
    for shape in chart.layout.get("shapes", ()):
        draw, value = (axes.axhline, shape["y0"]) if shape["yref"] == "y" else (axes.axvline, shape["x0"])
        draw(value, color="#555555", linewidth=1, linestyle=_DASHES.get(shape["line"]["dash"], "-"))
    if "tickvals" in x_axis:
        axes.set_xticks(x_axis["tickvals"])
    if x_axis.get("rangemode") == "tozero":
        axes.set_xlim(left=0)
    bars = "95 % interval" if chart.layout.get("shapes") else "mean ± standard deviation"
    axes.set_xlabel(f"{x_axis['title']['text']}, {bars}" if places else x_axis["title"]["text"])
    axes.set_ylabel("" if places else f"{y_axis['title']['text']}, {bars}")
    if chart.layout.get("showlegend", len(chart.data) > 1):
        axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)


def _draw_trace(axes: "Axes", trace: Trace, y: Sequence[float], colours: Mapping[str, str]) -> None:
    x, marker, line = trace["x"], trace.get("marker", {}), trace.get("line", {})
    symbols = marker.get("symbol", [])
    symbols = [symbols] * len(x) if isinstance(symbols, str) else symbols
    colour = colours[line["color"] if line else marker["color"]]
    shape = _MARKERS[symbols[0].removesuffix("-open")] if symbols else ""
    style = _DASHES.get(line.get("dash", ""), "-") if line else ""
    axes.plot(x, y, color=colour, linestyle=style, marker=shape, label=_literal(trace["name"]))
    for side, bar in ((side, trace[f"error_{side}"]) for side in "xy" if f"error_{side}" in trace):
        lengths: Any = {f"{side}err": [bar.get("arrayminus", bar["array"]), bar["array"]]}
        axes.errorbar(x, y, **lengths, fmt="none", ecolor=colour, capsize=3)
    for place, symbol in enumerate(symbols):
        shape, face = _MARKERS[symbol.removesuffix("-open")], "white" if symbol.endswith("-open") else colour
        size, opacity = 0.8 * marker["size"], marker.get("opacity", 1)
        axes.plot(x[place], y[place], marker=shape, color=colour, mfc=face, markersize=size, alpha=opacity)
