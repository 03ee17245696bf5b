"""The figures that come from samples: every run in the order taken, and the machine around them."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from velosweep.reporting.figure import BAD, MUTED, SERIES_COLOURS, SERIES_SYMBOLS, Figure, Trace, axis, rounded
from velosweep.reporting.safe import clip, plot_text

if TYPE_CHECKING:
    import pyarrow as pa

# As many points as a browser draws as vector graphics without lag; of more, an even part and all the extremes are
# shown. WebGL would bear more, but prints badly, needs `eval`, and crawls where there is no GPU.
MOST_POINTS = 3_000
MOST_EXTREMES = 200
MOST_ARMS = 8

_COLUMNS = (
    "model_pair", "speculation", "mode", "n_draft", "prompt_id", "iteration", "order", "warmup", "status", "error",
    "tokens_per_second", "started_at", "lane", "gpu_temperature_c", "gpu_clock_mhz", "gpu_power_w", "load_average",
    "cpu_busy",
)  # fmt: skip
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """Samples as rows in the order taken, with `second` since the first."""

    rows: Sequence[Row]


def timeline(samples: pa.Table) -> Timeline:
    """Read the needed columns (those that are there) of a sample table."""
    table = samples.select([name for name in _COLUMNS if name in samples.column_names])
    rows: list[Row] = table.to_pylist()
    rows = [row for row in rows if row.get("started_at") is not None]
    if not rows:
        return Timeline(rows=())
    for row in rows:
        row["model_pair"], row["prompt_id"] = (
            plot_text(str(row.get("model_pair"))),
            plot_text(str(row.get("prompt_id"))),
        )
    rows.sort(key=lambda row: (row["started_at"], row.get("order") or 0))
    start = rows[0]["started_at"]
    for row in rows:
        row["second"] = round((row["started_at"] - start).total_seconds(), 2)
    return Timeline(rows=rows)


def samples_figure(line: Timeline) -> Figure | None:
    """Each run's speed against the median of its arm and prompt, so that drift and outliers show whatever the mix."""
    counted = [row for row in line.rows if _counts(row)]
    if not counted:
        return None
    medians = _medians(counted)
    group = _grouping(counted)
    shown = _thinned(counted, medians)
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(shown, key=lambda row: (str(row.get("model_pair")), row.get("n_draft") or 0)):
        groups[group(row)].append(row)
    data = [
        _sample_trace(index, name, rows, medians, small=len(shown) > 500)
        for index, (name, rows) in enumerate(groups.items())
    ]
    data += _set_apart(line.rows, medians)
    few = len(shown) < len(counted)
    part = f" Of {len(counted):,} runs {len(shown):,} are drawn: an even part, and all that lie far off." if few else ""
    extreme = max(counted, key=lambda row: abs(_relative(row, medians)))
    return Figure(
        id="samples",
        title="Runs in the order they were taken",
        caption="Speed of each run against the median of its arm and prompt. Level and even is good; a slope is drift, "
        f"a lone point an outlier, ✗ a run that failed. Warm-ups are in the legend.{part}",
        summary=f"{len(counted):,} counted runs; the farthest from its median is {_relative(extreme, medians):+.1f} % "
        f"({_name(extreme)}).",
        data=data,
        layout={
            "xaxis": axis("seconds since the first run"),
            "yaxis": axis("from the median (%)", zeroline=True),
            "hovermode": "closest",
        },
        height=400,
    )


def _thinned(rows: Sequence[Row], medians: dict[tuple[object, ...], float]) -> Sequence[Row]:
    """At most about MOST_POINTS rows: every nth, and those farthest from their medians."""
    if len(rows) <= MOST_POINTS:
        return rows
    far = sorted((abs(_relative(row, medians)) for row in rows), reverse=True)[MOST_EXTREMES - 1]
    step = -(-len(rows) // (MOST_POINTS - MOST_EXTREMES))
    return [row for index, row in enumerate(rows) if index % step == 0 or abs(_relative(row, medians)) >= far]


def _counts(row: Row) -> bool:
    return row.get("status", "ok") == "ok" and not row.get("warmup") and row.get("tokens_per_second") is not None


def _arm(row: Row) -> tuple[object, ...]:
    return (row.get("model_pair"), row.get("speculation"), row.get("n_draft"), row.get("prompt_id"))


def _medians(rows: Iterable[Row]) -> dict[tuple[object, ...], float]:
    rates: dict[tuple[object, ...], list[float]] = defaultdict(list)
    for row in rows:
        rates[_arm(row)].append(row["tokens_per_second"])
        rates[_arm(row)[:-1]].append(row["tokens_per_second"])  # for warm-ups, whose prompt is their own
    return {arm: statistics.median(values) for arm, values in rates.items()}


def _relative(row: Row, medians: dict[tuple[object, ...], float]) -> float:
    median = medians.get(_arm(row)) or medians.get(_arm(row)[:-1])
    return 100 * (row["tokens_per_second"] / median - 1) if median else 0.0


def _name(row: Row) -> str:
    arm = f"n_draft {row['n_draft']}" if row.get("n_draft") else "vanilla"
    return f"{row.get('model_pair')}, {arm}"


def _grouping(rows: Sequence[Row]) -> Callable[[Row], str]:
    """A trace an arm where those are few; a trace a pair and mode where they are many."""
    several_pairs = len({row.get("model_pair") for row in rows}) > 1

    def arm(row: Row) -> str:
        return _name(row) if several_pairs else _name(row).split(", ", 1)[1]

    def mode(row: Row) -> str:
        word = "speculative" if row.get("n_draft") else "vanilla"
        return f"{row.get('model_pair')}, {word}" if several_pairs else word

    return arm if len({arm(row) for row in rows}) <= MOST_ARMS else mode


def _sample_trace(
    index: int, name: str, rows: Sequence[Row], medians: dict[tuple[object, ...], float], *, small: bool
) -> Trace:
    return {
        "type": "scatter", "mode": "markers", "name": name, "x": [row["second"] for row in rows],
        "y": [round(_relative(row, medians), 2) for row in rows],
        "marker": {"size": 5 if small else 7, "opacity": 0.75,
                   "color": SERIES_COLOURS[index % len(SERIES_COLOURS)],
                   "symbol": SERIES_SYMBOLS[index % len(SERIES_SYMBOLS)]},
        "customdata": [[round(row["tokens_per_second"], 2), row.get("n_draft"), row.get("prompt_id"),
                        row.get("iteration")] for row in rows],
        "hovertemplate": "%{customdata[0]} tok/s (%{y:+.1f} %)<br>n_draft %{customdata[1]}, %{customdata[2]}, "
                         "iteration %{customdata[3]}<extra>%{fullData.name}</extra>",
    }  # fmt: skip


def _set_apart(rows: Sequence[Row], medians: dict[tuple[object, ...], float]) -> list[Trace]:
    """Failed runs (on the zero line) and warm-ups (hidden until chosen): kept, shown, never averaged."""
    bad = [row for row in rows if row.get("status", "ok") != "ok"]
    warm = [row for row in rows if row.get("warmup") and row.get("status", "ok") == "ok"
            and row.get("tokens_per_second") is not None]  # fmt: skip
    traces: list[Trace] = []
    if bad:
        traces.append({
            "type": "scatter", "mode": "markers", "name": "failed, timed out or invalid",
            "x": [row["second"] for row in bad], "y": [0] * len(bad),
            "marker": {"symbol": "x", "size": 9, "color": BAD},
            "text": [f"{_name(row)}<br>{row['status']}: {_short(row.get('error'))}" for row in bad],
            "hovertemplate": "%{text}<extra></extra>",
        })  # fmt: skip
    if warm:
        traces.append({
            "type": "scatter", "mode": "markers", "name": "warm-up (not counted)", "visible": "legendonly",
            "x": [row["second"] for row in warm], "y": [round(_relative(row, medians), 2) for row in warm],
            "marker": {"symbol": "circle-open", "size": 7, "color": MUTED},
            "text": [_name(row) for row in warm], "hovertemplate": "%{text}: %{y:+.1f} %<extra>warm-up</extra>",
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
    strips = [
        (name, title, factor)
        for name, title, factor in _CONDITIONS
        if any(row.get(name) is not None for row in line.rows)
    ]
    if not strips:
        return None
    data: list[Trace] = []
    layout: dict[str, Any] = {"showlegend": False}
    words = []
    for index, (name, title, factor) in enumerate(strips):
        known = [row for row in line.rows if row.get(name) is not None]
        known = known[:: -(-len(known) // MOST_POINTS)]
        values = [rounded(row[name] * factor) for row in known]
        number = "" if index == 0 else str(index + 1)
        data.append({
            "type": "scatter", "mode": "lines", "name": title, "x": [row["second"] for row in known], "y": values,
            "xaxis": "x", "yaxis": f"y{number}", "line": {"color": SERIES_COLOURS[index], "width": 1.5},
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
