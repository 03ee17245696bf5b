"""The charts that come from samples: every run in the order taken, and the machine around them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import ndimage

from velosweep.reporting.chart import BAD, MUTED, Chart, Trace, axis, rounded, scatter, series_style
from velosweep.reporting.escaping import clip, plot_text
from velosweep.statistics.columns import Columns, combined_key

# As many points as a browser draws as vector graphics without lag; of more, an even part and all the extremes are
# shown. WebGL would bear more, but prints badly, needs `eval`, and crawls where there is no GPU.
MOST_POINTS = 3_000
MOST_EXTREMES = 200
MOST_SETTINGS = 8

_CONDITIONS = (
    ("gpu_temperature_c", "GPU °C", 1.0),
    ("gpu_clock_mhz", "GPU MHz", 1.0),
    ("gpu_power_w", "GPU W", 1.0),
    ("load_average", "load", 1.0),
    ("cpu_busy", "others' CPU %", 100.0),
)
_COLUMNS = (
    "job_id", "n_draft", "prompt_id", "iteration", "order", "warmup", "status", "error",
    "tokens_per_second", "started_at", *(name for name, _, _ in _CONDITIONS),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """All runs with a start, in the order taken: columns, and arrays of one value a run.

    `second` since the first run; `relative` tok/s in per cent from the median of the run's setting and prompt (of its
    setting, for a prompt that is not counted), 0 where there is none. Masks: `counted` runs are averaged, `warm` ran
    well but are warm-ups; the rest of those that ended well have no speed.
    """

    columns: Columns
    second: Any
    relative: Any
    counted: Any
    warm: Any

    labels: Mapping[str, str]

    def name(self, row: int) -> str:
        """What a run was of, safe for Plotly."""
        job = self.columns.text("job_id").at(row) or ""
        return self.labels.get(job) or (job if self.columns.integer("n_draft")[row] else "vanilla")


def timeline(samples: pa.Table, labels: Mapping[str, str]) -> Timeline | None:
    """Order a table of samples by start; None where no run has one. Columns may be missing.

    `labels`: what a job or a baseline is called, by id, safe for Plotly.
    """
    unordered = Columns(samples.select([name for name in _COLUMNS if name in samples.column_names]))
    started, order = unordered.microseconds("started_at"), unordered.integer("order")
    known = np.flatnonzero(started != np.iinfo(np.int64).min)
    if not len(known):
        return None
    taken = known[np.lexsort((order[known], started[known]))]
    columns = Columns(unordered.table.take(pa.array(taken, pa.int64())))
    rate, warmup = columns.number("tokens_per_second"), columns.integer("warmup") != 0
    setting = combined_key([columns.text("job_id").codes, columns.integer("n_draft") > 0])
    runs_well = columns.ended_well() & ~np.isnan(rate)
    counted = runs_well & ~warmup
    median = _medians(rate, counted, combined_key([setting, columns.text("prompt_id").codes]))
    median = np.where(median > 0, median, _medians(rate, counted, setting))
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.where(median > 0, 100 * (rate / median - 1), 0.0)
    second = np.round((started[taken] - started[taken[0]]) / 1e6, 2)
    warm = runs_well & warmup
    return Timeline(columns=columns, second=second, relative=relative, counted=counted, warm=warm, labels=labels)


def _medians(rate: Any, counted: Any, group: Any) -> Any:
    """For each row the median of its group's counted rows, NaN where there are none."""
    codes = np.unique(group, return_inverse=True)[1]
    known = np.isin(codes, codes[counted])
    found = np.full(len(codes), np.nan)
    if known.any():
        found[known] = ndimage.median(rate[counted], codes[counted], index=codes[known])
    return found


def samples_chart(line: Timeline) -> Chart | None:
    """Each run's speed against the median of its setting and prompt, so that drift and outliers show in any mix."""
    counted = np.flatnonzero(line.counted)
    if not len(counted):
        return None
    shown = counted
    if len(counted) > MOST_POINTS:  # every nth, and those farthest from their medians
        distance = np.abs(line.relative[counted])
        far = np.partition(distance, -MOST_EXTREMES)[-MOST_EXTREMES]
        step = -(-len(counted) // (MOST_POINTS - MOST_EXTREMES))
        shown = counted[(np.arange(len(counted)) % step == 0) | (distance >= far)]
    few = len(shown) < len(counted)
    part = f" Of {len(counted):,} runs {len(shown):,} are drawn: an even part, and all that lie far off." if few else ""
    extreme = int(counted[np.abs(line.relative[counted]).argmax()])
    return Chart(
        id="samples",
        title="Runs in the order they were taken",
        caption="Speed of each run against the median of its setting and prompt. Level and even is good; a slope is "
        f"drift, a lone point an outlier, ✗ a run that failed. Warm-ups are in the legend.{part}",
        summary=f"{len(counted):,} counted runs; the farthest from its median is {line.relative[extreme]:+.1f} % "
        f"({line.name(extreme)}).",
        data=[*_counted_runs(line, counted, shown), *_set_apart(line)],
        layout={
            "xaxis": axis("seconds since the first run"),
            "yaxis": axis("from the median (%)", zeroline=True),
            "hovermode": "closest",
        },
        height=400,
    )


def _counted_runs(line: Timeline, counted: Any, shown: Any) -> list[Trace]:
    """A trace a setting where those are few, one a mode where they are many."""
    jobs, n_draft = line.columns.text("job_id").codes, line.columns.integer("n_draft")
    prompt, iteration = line.columns.text("prompt_id"), line.columns.integer("iteration")
    rate = line.columns.number("tokens_per_second")
    few = len(np.unique(jobs[counted])) <= MOST_SETTINGS
    members: dict[str, list[int]] = {}
    for row in shown[np.lexsort((shown, n_draft[shown]))].tolist():
        label = line.name(row) if few else "speculative" if n_draft[row] else "vanilla"
        members.setdefault(label, []).append(row)
    traces: list[Trace] = []
    for index, (name, rows) in enumerate(members.items()):
        colour, symbol, _ = series_style(index)
        marker = {"size": 5 if len(shown) > 500 else 7, "opacity": 0.75, "color": colour, "symbol": symbol}
        details = [
            [round(float(rate[row]), 2), int(n_draft[row]), plot_text(str(prompt.at(row))), int(iteration[row])]
            for row in rows
        ]
        hover = (
            "%{customdata[0]} tok/s (%{y:+.1f} %)<br>n_draft %{customdata[1]}, %{customdata[2]}, "
            "iteration %{customdata[3]}<extra>%{fullData.name}</extra>"
        )
        x, y = line.second[rows].tolist(), line.relative[rows].round(2).tolist()
        traces.append(scatter(name, x, y, hover=hover, marker=marker, customdata=details))
    return traces


def _set_apart(line: Timeline) -> list[Trace]:
    """Failed runs (on the zero line) and warm-ups (hidden until chosen): kept, shown, never averaged."""
    bad, warm = np.flatnonzero(~line.columns.ended_well()).tolist(), np.flatnonzero(line.warm).tolist()
    status, error = line.columns.text("status"), line.columns.text("error")
    reasons = {row: clip((error.at(row) or "no reason given").partition("\n")[0], 120) for row in bad}
    texts = [f"{line.name(row)}<br>{status.at(row)}: {plot_text(reason)}" for row, reason in reasons.items()]
    marker = {"symbol": "x", "size": 9, "color": BAD}
    name, x, y = "failed, timed out or invalid", line.second[bad].tolist(), [0] * len(bad)
    failed = scatter(name, x, y, hover="%{text}", marker=marker, text=texts)
    texts = [line.name(row) for row in warm]
    marker = {"symbol": "circle-open", "size": 7, "color": MUTED}
    hover = "%{text}: %{y:+.1f} %<extra>warm-up</extra>"
    name, x, y = "warm-up (not counted)", line.second[warm].tolist(), line.relative[warm].round(2).tolist()
    warmups = scatter(name, x, y, hover=hover, marker=marker, visible="legendonly", text=texts)
    return [trace for trace in (failed, warmups) if trace["x"]]


def conditions_chart(line: Timeline) -> Chart | None:
    """The machine around the runs, a strip for each quantity that could be read."""
    found = [(title, factor * line.columns.number(name)) for name, title, factor in _CONDITIONS]
    strips = [(title, values) for title, values in found if not np.isnan(values).all()]
    if not strips:
        return None
    data: list[Trace] = []
    layout: dict[str, Any] = {"showlegend": False}
    words = []
    for index, (title, column) in enumerate(strips):
        known = np.flatnonzero(~np.isnan(column))
        known = known[:: -(-len(known) // MOST_POINTS)]
        seconds, values = line.second[known].tolist(), [rounded(value) for value in column[known].tolist()]
        number, style = "" if index == 0 else str(index + 1), {"color": series_style(index)[0], "width": 1.5}
        data.append(scatter(title, seconds, values, hover=f"%{{y}} {title}", line=style, xaxis="x", yaxis=f"y{number}"))
        top = 1 - index / len(strips)
        layout[f"yaxis{number}"] = axis(title, domain=[round(top - 0.85 / len(strips), 4), round(top, 4)], nticks=4)
        words.append(f"{title} {round(min(values), 1):g} to {round(max(values), 1):g}")
    layout["xaxis"] = axis("seconds since the first run", anchor=f"y{len(strips)}" if len(strips) > 1 else "y")
    return Chart(
        id="conditions",
        title="Conditions",
        caption="Read with each run: a clock that falls or a load that rises explains a drift.",
        summary=f"{'; '.join(words)}.",
        data=data,
        layout=layout,
        height=100 + 110 * len(strips),
    )
