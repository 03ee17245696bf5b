"""The specification's three metrics of both modes, a figure each."""

from __future__ import annotations

from collections.abc import Sequence

from velosweep.reporting.figure import Figure, Trace, axis, n_draft_axis, rounded, series_colour, series_symbol
from velosweep.reporting.wording import listed, plus_minus, series_of
from velosweep.statistics.comparison import Comparison, ModeStatistics, Statistics

_METRICS = (
    ("tokens_per_second", "Tokens per second", "tokens/s"),
    ("time_to_first_token_ms", "Time to first token", "ms"),
    ("total_time_ms", "Total time", "ms"),
)


def metric_figures(jobs: Sequence[Comparison]) -> list[Figure]:
    """The specification's three metrics of both modes over n_draft, mean ± standard deviation."""
    return [figure for entry in _METRICS if (figure := _metric(jobs, *entry)) is not None]


def _metric(jobs: Sequence[Comparison], metric: str, title: str, unit: str) -> Figure | None:
    data: list[Trace] = []
    for index, (name, members) in enumerate(series_of(jobs).items()):
        for vanilla in (True, False):
            data += _metric_trace(index, name, members, metric, vanilla, unit)
    if not data:
        return None
    first = next((job for job in jobs if job.speculative), jobs[0])
    words = [f"{mode} {plus_minus(_stats(first, metric, mode == 'vanilla'), 1)} {unit}"
             for mode in ("vanilla", "speculative") if _has(first, mode == "vanilla")]  # fmt: skip
    return Figure(
        id=f"metric-{metric.replace('_', '-')}",
        title=title,
        caption="Mean ± standard deviation of the runs. Dashed: vanilla.",
        summary=f"At n_draft {first.n_draft}: {listed(words)}.",
        data=data,
        layout={
            "xaxis": n_draft_axis(job.n_draft for job in jobs),
            "yaxis": axis(unit, rangemode="tozero"),
            "showlegend": True,
        },
        height=300 + 16 * max(len(data) - 2, 0),  # room for the legend
    )


def _metric_trace(
    index: int, name: str, members: Sequence[Comparison], metric: str, vanilla: bool, unit: str
) -> list[Trace]:
    there = [job for job in members if _has(job, vanilla)]
    if not there:
        return []
    colour = series_colour(index)
    stats = [_stats(job, metric, vanilla) for job in there]
    mode = "vanilla" if vanilla else "speculative"
    shape = series_symbol(index)
    return [{
        "type": "scatter", "mode": "lines+markers", "name": f"{name}, {mode}" if name else mode,
        "x": [job.n_draft for job in there], "y": [rounded(entry.mean) for entry in stats],
        "error_y": {"type": "data", "array": [rounded(entry.stddev or 0.0) for entry in stats], "thickness": 1},
        "line": {"color": colour, "width": 1.5, "dash": "dash" if vanilla else "solid"},
        "marker": {"size": 7, "color": colour, "symbol": f"{shape}-open" if vanilla else shape},
        "hovertemplate": f"{mode}, n_draft %{{x}}: %{{y:.1f}} {unit}<extra></extra>",
    }]  # fmt: skip


def _has(job: Comparison, vanilla: bool) -> bool:
    return (job.vanilla if vanilla else job.speculative) is not None


def _stats(job: Comparison, metric: str, vanilla: bool) -> Statistics:
    mode: ModeStatistics | None = job.vanilla if vanilla else job.speculative
    stats: Statistics = getattr(mode, metric)
    return stats
