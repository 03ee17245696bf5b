"""The figures that explain a speedup: acceptance, and the specification's three metrics of both modes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from velosweep.reporting.figure import (
    Figure,
    Trace,
    axis,
    error_bar,
    n_draft_axis,
    rounded,
    scatter,
    series_colour,
    series_dash,
    series_symbol,
)
from velosweep.reporting.wording import job_labels, listed, percent, plus_minus, series_of
from velosweep.statistics.comparison import Comparison, Statistics

MOST_POSITION_LINES = 8
_METRICS = (
    ("tokens_per_second", "Tokens per second", "tokens/s"),
    ("time_to_first_token_ms", "Time to first token", "ms"),
    ("total_time_ms", "Total time", "ms"),
)


def acceptance_figure(jobs: Sequence[Comparison], advised: Collection[str] = ()) -> Figure | None:
    """Share of rounds in which draft position i was accepted; over n_draft where builds don't report positions.

    Shown at once: each series' longest draft, and the jobs whose ids are `advised`, which come first.
    """
    known = [job for job in jobs if job.acceptance and job.acceptance.per_position]
    if not known:
        return _acceptance_over_n_draft([job for job in jobs if job.acceptance])
    labels = job_labels(known)
    longest = {members[-1].job_id for members in series_of(known).values()}
    known.sort(key=lambda job: (job.job_id not in advised, job.job_id not in longest))
    shown = {job.job_id for job in known if job.job_id in {*advised, *longest}}
    if len(known) > MOST_POSITION_LINES:
        known = [job for job in known if job.job_id in shown][:MOST_POSITION_LINES]
    data: list[Trace] = []
    for index, job in enumerate(known):
        shares = _drafted(job)
        trace = scatter(
            labels[job.job_id],
            list(range(1, len(shares) + 1)),
            [rounded(100 * share) for share in shares],
            hover=f"{labels[job.job_id]}<br>position %{{x}}: %{{y:.1f}} %",
            marker={"symbol": series_symbol(index), "size": 7},
            line={"color": series_colour(index), "dash": series_dash(index)},
            visible=True if job.job_id in shown or len(known) <= 4 else "legendonly",
        )
        data.append(trace)
    first = known[0].acceptance
    start = first.per_position[0] if first and first.per_position else None
    return Figure(
        id="acceptance",
        title="Acceptance by position",
        caption="Share of rounds in which the draft token at this position was accepted. Choose a name in the legend "
        "to show or hide it.",
        summary=f"{labels[known[0].job_id]}: the first draft token is accepted in {percent(start)} of rounds.",
        data=data,
        layout={
            "xaxis": axis("position in the draft", dtick=1 if max(job.n_draft for job in jobs) <= 16 else None),
            "yaxis": axis("accepted (% of rounds)", range=[0, 102]),
        },
    )


def _drafted(job: Comparison) -> tuple[float, ...]:
    """Acceptance at the positions that the job can draft; earlier versions padded them with zeros."""
    shares = job.acceptance.per_position if job.acceptance and job.acceptance.per_position else ()
    return shares if any(shares[job.n_draft :]) else shares[: job.n_draft]


def _acceptance_over_n_draft(jobs: Sequence[Comparison]) -> Figure | None:
    if not jobs:
        return None
    data: list[Trace] = []
    for index, (name, members) in enumerate(series_of(jobs).items()):
        seen = [job.acceptance for job in members if job.acceptance]
        rates = [rounded(100 * entry.rate) for entry in seen]
        lows = [None if entry.low is None else 100 * entry.low for entry in seen]
        highs = [None if entry.high is None else 100 * entry.high for entry in seen]
        trace = scatter(
            name or "acceptance",
            [job.n_draft for job in members],
            rates,
            hover="n_draft %{x}: %{y:.1f} %",
            marker={"symbol": series_symbol(index), "size": 8},
            line={"color": series_colour(index)},
            error_y=error_bar(rates, lows, highs),
        )
        data.append(trace)
    all_rates = [job.acceptance.rate for job in jobs if job.acceptance]
    return Figure(
        id="acceptance",
        title="Acceptance over n_draft",
        caption="Accepted share of the drafted tokens; this build doesn't report at which positions.",
        summary=f"From {percent(min(all_rates))} to {percent(max(all_rates))} of the drafted tokens were accepted.",
        data=data,
        layout={"xaxis": n_draft_axis(job.n_draft for job in jobs), "yaxis": axis("accepted (%)", range=[0, 102])},
    )


def metric_figures(jobs: Sequence[Comparison]) -> list[Figure]:
    """The specification's three metrics of both modes over n_draft, mean ± standard deviation."""
    return [figure for entry in _METRICS if (figure := _metric_figure(jobs, *entry)) is not None]


def _metric_figure(jobs: Sequence[Comparison], metric: str, title: str, unit: str) -> Figure | None:
    data: list[Trace] = []
    for index, (name, members) in enumerate(series_of(jobs).items()):
        for mode in ("vanilla", "speculative"):
            data += _metric_trace(index, f"{name}, {mode}" if name else mode, members, mode, metric, unit)
    if not data:
        return None
    first = next((job for job in jobs if job.speculative), jobs[0])
    both = ((mode, _stats(first, mode, metric)) for mode in ("vanilla", "speculative"))
    words = listed(f"{mode} {plus_minus(stats, 1)} {unit}" for mode, stats in both if stats)
    return Figure(
        id=f"metric-{metric.replace('_', '-')}",
        title=title,
        caption="Mean ± standard deviation of the runs. Dashed: vanilla.",
        summary=f"At n_draft {first.n_draft}: {words}.",
        data=data,
        layout={
            "xaxis": n_draft_axis(job.n_draft for job in jobs),
            "yaxis": axis(unit, rangemode="tozero"),
            "showlegend": True,
        },
        height=300 + 16 * max(len(data) - 2, 0),  # room for the legend
    )


def _metric_trace(
    index: int, name: str, members: Sequence[Comparison], mode: str, metric: str, unit: str
) -> list[Trace]:
    there = [(job.n_draft, stats) for job in members if (stats := _stats(job, mode, metric))]
    if not there:
        return []
    colour, shape, vanilla = series_colour(index), series_symbol(index), mode == "vanilla"
    trace = scatter(
        name,
        [n_draft for n_draft, _ in there],
        [rounded(stats.mean) for _, stats in there],
        hover=f"{mode}, n_draft %{{x}}: %{{y:.1f}} {unit}",
        marker={"size": 7, "color": colour, "symbol": f"{shape}-open" if vanilla else shape},
        line={"color": colour, "width": 1.5, "dash": "dash" if vanilla else "solid"},
        error_y={"type": "data", "array": [rounded(stats.stddev or 0.0) for _, stats in there], "thickness": 1},
    )
    return [trace]


def _stats(job: Comparison, mode: str, metric: str) -> Statistics | None:
    figures = getattr(job, mode)
    return getattr(figures, metric) if figures is not None else None
