"""The figures that come from samples: every run in the order taken, and the machine around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from velosweep.reporting.figure import BAD, MUTED, Figure, Trace, axis, rounded, series_colour, series_symbol
from velosweep.reporting.safe import clip, plot_text
from velosweep.reporting.timeline import Timeline

# As many points as a browser draws as vector graphics without lag; of more, an even part and all the extremes are
# shown. WebGL would bear more, but prints badly, needs `eval`, and crawls where there is no GPU.
MOST_POINTS = 3_000
MOST_EXTREMES = 200
MOST_ARMS = 8


def samples_figure(line: Timeline) -> Figure | None:
    """Each run's speed against the median of its arm and prompt, so that drift and outliers show whatever the mix."""
    import numpy as np

    counted = np.flatnonzero(line.counted)
    if not len(counted):
        return None
    shown = _thinned(counted, line.relative)
    data = [
        _sample_trace(index, name, line, rows, small=len(shown) > 500)
        for index, (name, rows) in enumerate(_groups(line, counted, shown).items())
    ]
    data += _set_apart(line)
    few = len(shown) < len(counted)
    part = f" Of {len(counted):,} runs {len(shown):,} are drawn: an even part, and all that lie far off." if few else ""
    extreme = int(counted[np.abs(line.relative[counted]).argmax()])
    return Figure(
        id="samples",
        title="Runs in the order they were taken",
        caption="Speed of each run against the median of its arm and prompt. Level and even is good; a slope is drift, "
        f"a lone point an outlier, ✗ a run that failed. Warm-ups are in the legend.{part}",
        summary=f"{len(counted):,} counted runs; the farthest from its median is {line.relative[extreme]:+.1f} % "
        f"({line.name(extreme)}).",
        data=data,
        layout={
            "xaxis": axis("seconds since the first run"),
            "yaxis": axis("from the median (%)", zeroline=True),
            "hovermode": "closest",
        },
        height=400,
    )


def _thinned(rows: Any, relative: Any) -> Any:
    """At most about MOST_POINTS rows: every nth, and those farthest from their medians."""
    import numpy as np

    if len(rows) <= MOST_POINTS:
        return rows
    distance = np.abs(relative[rows])
    far = np.partition(distance, -MOST_EXTREMES)[-MOST_EXTREMES]
    step = -(-len(rows) // (MOST_POINTS - MOST_EXTREMES))
    return rows[(np.arange(len(rows)) % step == 0) | (distance >= far)]


def _groups(line: Timeline, counted: Any, shown: Any) -> dict[str, list[int]]:
    """The rows of each trace: a trace an arm where those are few, a trace a pair and mode where they are many."""
    import numpy as np

    arms = np.unique(np.stack([line.pair.codes[counted], line.n_draft[counted]]), axis=1).T
    several_pairs = len(set(arms[:, 0])) > 1
    label: Callable[[int], str] = line.arm if len(arms) <= MOST_ARMS else _mode_of(line)
    groups: dict[str, list[int]] = {}
    for row in shown[np.lexsort((shown, line.n_draft[shown], line.pair.codes[shown]))].tolist():
        name = f"{line.pair_of(row)}, {label(row)}" if several_pairs else label(row)
        groups.setdefault(name, []).append(row)
    return groups


def _mode_of(line: Timeline) -> Callable[[int], str]:
    return lambda row: "speculative" if line.n_draft[row] else "vanilla"


def _sample_trace(index: int, name: str, line: Timeline, rows: list[int], *, small: bool) -> Trace:
    number, prompt = line.columns.number, line.prompt
    return {
        "type": "scatter", "mode": "markers", "name": name, "x": line.second[rows].tolist(),
        "y": line.relative[rows].round(2).tolist(),
        "marker": {"size": 5 if small else 7, "opacity": 0.75,
                   "color": series_colour(index),
                   "symbol": series_symbol(index)},
        "customdata": [[round(float(line.rate[row]), 2), _whole(number("n_draft")[row]),
                        plot_text(str(prompt.at(row))), _whole(number("iteration")[row])] for row in rows],
        "hovertemplate": "%{customdata[0]} tok/s (%{y:+.1f} %)<br>n_draft %{customdata[1]}, %{customdata[2]}, "
                         "iteration %{customdata[3]}<extra>%{fullData.name}</extra>",
    }  # fmt: skip


def _whole(value: float) -> int | None:
    return None if value != value else int(value)


def _set_apart(line: Timeline) -> list[Trace]:
    """Failed runs (on the zero line) and warm-ups (hidden until chosen): kept, shown, never averaged."""
    import numpy as np

    bad, warm = np.flatnonzero(line.bad).tolist(), np.flatnonzero(line.warm).tolist()
    status, error = line.columns.text("status"), line.columns.text("error")
    traces: list[Trace] = []
    if bad:
        traces.append({
            "type": "scatter", "mode": "markers", "name": "failed, timed out or invalid",
            "x": line.second[bad].tolist(), "y": [0] * len(bad),
            "marker": {"symbol": "x", "size": 9, "color": BAD},
            "text": [f"{line.name(row)}<br>{status.at(row)}: {_short(error.at(row))}" for row in bad],
            "hovertemplate": "%{text}<extra></extra>",
        })  # fmt: skip
    if warm:
        traces.append({
            "type": "scatter", "mode": "markers", "name": "warm-up (not counted)", "visible": "legendonly",
            "x": line.second[warm].tolist(), "y": line.relative[warm].round(2).tolist(),
            "marker": {"symbol": "circle-open", "size": 7, "color": MUTED},
            "text": [line.name(row) for row in warm], "hovertemplate": "%{text}: %{y:+.1f} %<extra>warm-up</extra>",
        })  # fmt: skip
    return traces


def _short(text: object) -> str:
    """An error for a hover box: one short line, nothing Plotly would read as mark-up."""
    return plot_text(clip(str(text or "no reason given").partition("\n")[0], 120))


_CONDITIONS = (
    ("gpu_temperature_c", "GPU °C", 1.0),
    ("gpu_clock_mhz", "GPU MHz", 1.0),
    ("gpu_power_w", "GPU W", 1.0),
    ("load_average", "load", 1.0),
    ("cpu_busy", "others' CPU %", 100.0),
)


def conditions_figure(line: Timeline) -> Figure | None:
    """The machine around the runs, a strip a quantity that could be read."""
    import numpy as np

    strips = [strip for strip in _CONDITIONS if line.columns.has(strip[0])]
    if not strips:
        return None
    data: list[Trace] = []
    layout: dict[str, Any] = {"showlegend": False}
    words = []
    for index, (name, title, factor) in enumerate(strips):
        column = line.columns.number(name)
        known = np.flatnonzero(~np.isnan(column))
        known = known[:: -(-len(known) // MOST_POINTS)]
        values = [rounded(value * factor) for value in column[known].tolist()]
        number = "" if index == 0 else str(index + 1)
        data.append({
            "type": "scatter", "mode": "lines", "name": title, "x": line.second[known].tolist(), "y": values,
            "xaxis": "x", "yaxis": f"y{number}", "line": {"color": series_colour(index), "width": 1.5},
            "hovertemplate": f"%{{y}} {title}<extra></extra>",
        })  # fmt: skip
        top = 1 - index / len(strips)
        layout[f"yaxis{number}"] = axis(title, domain=[round(top - 0.85 / len(strips), 4), round(top, 4)], nticks=4)
        words.append(f"{title} {round(min(values), 1):g} to {round(max(values), 1):g}")
    layout["xaxis"] = axis("seconds since the first run", anchor=f"y{len(strips)}" if len(strips) > 1 else "y")
    return Figure(
        id="conditions",
        title="Conditions",
        caption="Read with each run: a clock that falls or a load that rises explains a drift.",
        summary=f"{'; '.join(words)}.",
        data=data,
        layout=layout,
        height=100 + 110 * len(strips),
    )
