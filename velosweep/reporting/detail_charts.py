"""The charts that explain a speedup: acceptance, the three metrics of both modes, where decoding time goes."""

from collections.abc import Collection, Sequence

from velosweep.reporting.chart import (
    SERIES_COLOURS,
    VANILLA,
    Chart,
    Trace,
    axis,
    error_bar,
    n_draft_axis,
    rounded,
    scatter,
    series_style,
)
from velosweep.reporting.wording import jobs_by_series, join_words, leading_series, names_of, percent, plus_minus
from velosweep.statistics.comparison import Comparison, Statistics

MOST_POSITION_LINES = 8
_MOST_JOBS = 12  # whose decoding time is drawn
_VERIFYING, _DRAFTING, _READING = SERIES_COLOURS[:3]
_METRICS = (
    ("tokens_per_second", "Tokens per second", "tokens/s"),
    ("time_to_first_token_ms", "Time to first token", "ms"),
    ("total_time_ms", "Total time", "ms"),
)


def acceptance_chart(jobs: Sequence[Comparison], advised: Collection[str] = ()) -> Chart | None:
    """Share of drafts whose token at position i was accepted; over n_draft where builds don't report positions.

    Shown at once: each series' longest draft, and the jobs whose ids are `advised`, which come first.
    """
    known = [(job, job.acceptance.per_position) for job in jobs if job.acceptance and job.acceptance.per_position]
    if not known:
        return _acceptance_over_n_draft(jobs)
    labels = names_of(job for job, _ in known).labels
    longest = {members[-1].job_id for members in jobs_by_series(job for job, _ in known).values()}
    known.sort(key=lambda entry: (entry[0].job_id not in advised, entry[0].job_id not in longest))
    shown = {*advised, *longest}
    if len(known) > MOST_POSITION_LINES:
        known = [entry for entry in known if entry[0].job_id in shown][:MOST_POSITION_LINES]
    data: list[Trace] = []
    for index, (job, positions) in enumerate(known):
        # Earlier versions padded the positions that a job can't draft with zeros.
        shares = positions if any(positions[job.n_draft :]) else positions[: job.n_draft]
        places = list(range(1, len(shares) + 1))
        values = [rounded(100 * share) for share in shares]
        colour, symbol, dash = series_style(index)
        marker, line = {"symbol": symbol, "size": 7}, {"color": colour, "dash": dash}
        name = labels[job.job_id]
        visible = True if job.job_id in shown or len(known) <= 4 else "legendonly"
        hover = f"{name}<br>position %{{x}}: %{{y:.1f}} %"
        data.append(scatter(name, places, values, hover=hover, marker=marker, line=line, visible=visible))
    first, positions = known[0]
    return Chart(
        id="acceptance",
        title="Acceptance by position",
        caption="Share of drafts of which the token at this position was accepted; some are shorter, as a run's last "
        "one. Choose a name in the legend to show or hide it.",
        summary=f"{labels[first.job_id]}: the first drafted token is accepted in {percent(positions[0])} of drafts.",
        data=data,
        layout={
            "xaxis": axis("position in the draft", dtick=1 if max(job.n_draft for job in jobs) <= 16 else None),
            "yaxis": axis("accepted (% of drafts)", range=[0, 102]),
        },
    )


def _acceptance_over_n_draft(jobs: Sequence[Comparison]) -> Chart | None:
    known = [job for job in jobs if job.acceptance]
    data: list[Trace] = []
    for index, (name, members) in enumerate(leading_series(known).items()):
        seen = [job.acceptance for job in members if job.acceptance]
        rates = [rounded(100 * entry.rate) for entry in seen]
        lows = [None if entry.low is None else 100 * entry.low for entry in seen]
        highs = [None if entry.high is None else 100 * entry.high for entry in seen]
        colour, symbol, _ = series_style(index)
        marker, line = {"symbol": symbol, "size": 8}, {"color": colour}
        bars = error_bar(rates, lows, highs)
        drafts = [job.n_draft for job in members]
        hover = "n_draft %{x}: %{y:.1f} %"
        data.append(scatter(name or "acceptance", drafts, rates, hover=hover, marker=marker, line=line, error_y=bars))
    if not data:
        return None
    rates = sorted(job.acceptance.rate for job in known if job.acceptance)
    return Chart(
        id="acceptance",
        title="Acceptance over n_draft",
        caption="Accepted share of the drafted tokens; this build doesn't report at which positions.",
        summary=f"From {percent(rates[0])} to {percent(rates[-1])} of the drafted tokens were accepted.",
        data=data,
        layout={"xaxis": n_draft_axis(known), "yaxis": axis("accepted (%)", range=[0, 102])},
    )


def metric_charts(jobs: Sequence[Comparison]) -> list[Chart]:
    """The specification's three metrics of both modes over n_draft, mean ± standard deviation."""
    return [chart for entry in _METRICS if (chart := _metric_chart(jobs, *entry)) is not None]


def _metric_chart(jobs: Sequence[Comparison], metric: str, title: str, unit: str) -> Chart | None:
    def stats_of(job: Comparison, mode: str) -> Statistics | None:
        return getattr(getattr(job, mode), metric, None)  # a mode may have no statistics at all

    names, series = names_of(jobs), dict[str, dict[int, Statistics]]()
    drawn = [job for members in leading_series(jobs).values() for job in members]
    for mode, called in (("vanilla", names.vanilla), ("speculative", names.series)):  # settings share vanilla's runs
        for job in sorted(drawn, key=lambda job: job.n_draft):
            if (stats := stats_of(job, mode)) is not None:
                series.setdefault(called[job.job_id] or mode, {}).setdefault(job.n_draft, stats)
    data: list[Trace] = []
    plain = set(names.vanilla.values())
    for index, (name, known) in enumerate(series.items(), start=-len(plain & series.keys())):
        colour, symbol, _ = series_style(index)  # speculative series have the colours of the other charts
        colour = VANILLA if name in plain else colour
        means = [rounded(stats.mean) for stats in known.values()]
        spreads = {"type": "data", "array": [rounded(stats.stddev or 0.0) for stats in known.values()], "thickness": 1}
        marker = {"size": 7, "color": colour, "symbol": f"{symbol}-open" if name in plain else symbol}
        line = {"color": colour, "width": 1.5, "dash": "dash" if name in plain else "solid"}
        hover = f"{name}, n_draft %{{x}}: %{{y:.1f}} {unit}"
        data.append(scatter(name, list(known), means, hover=hover, marker=marker, line=line, error_y=spreads))
    if not data:
        return None
    first = next((job for job in jobs if job.speculative), jobs[0])
    both = ((mode, stats_of(first, mode)) for mode in ("vanilla", "speculative"))
    words = join_words(f"{mode} {plus_minus(stats, 1)} {unit}" for mode, stats in both if stats)
    return Chart(
        id=f"metric-{metric.replace('_', '-')}",
        title=title,
        caption="Mean ± standard deviation of the runs. Dashed: vanilla.",
        summary=f"At n_draft {first.n_draft}: {words}.",
        data=data,
        layout={"xaxis": n_draft_axis(jobs), "yaxis": axis(unit, rangemode="tozero"), "showlegend": True},
        height=300 + 16 * max(len(data) - 2, 0),  # room for the legend
    )


def decoding_chart(jobs: Sequence[Comparison], advised: Collection[str] = ()) -> Chart | None:
    """Milliseconds a token by what they were spent on, stacked; None where no job's costs are known.

    Of many jobs those whose ids are `advised` are shown, and the first.
    """
    known = [
        (job, job.decoding, 1000 / job.speculative_speed)
        for job in sorted(jobs, key=lambda job: job.job_id not in advised)
        if job.decoding is not None and job.speculative_speed is not None
    ][:_MOST_JOBS]
    if not known:
        return None
    names = names_of(jobs)
    first, decoding, _ = known[0]
    known.sort(key=lambda entry: list(names.labels).index(entry[0].job_id))
    plain = {names.vanilla[job.job_id]: 1000 / job.vanilla_speed for job, _, _ in known if job.vanilla_speed}
    labels = [names.labels[job.job_id] for job, _, _ in known]
    told = all(one.sync_cost is not None for _, one, _ in known)
    verifying = "verifying" if told else "verifying, and the draft model reading that"
    data = [
        _bars("one step of the main model", list(plain), [rounded(ms) for ms in plain.values()], VANILLA),
        _bars(verifying, labels, [rounded(ms * one.verify_share) for _, one, ms in known], _VERIFYING),
        _bars("drafting", labels, [rounded(ms * one.draft_share) for _, one, ms in known], _DRAFTING),
    ]
    read = [rounded(ms * one.other_share) for _, one, ms in known]
    if max(read) >= 0.005:  # ms: less shows nowhere
        data.append(_bars("draft model reads what is verified", labels, read, _READING))
    return Chart(
        id="decoding",
        title="Where a token's time goes",
        caption="By llama.cpp's own log: drafting, checking the draft by the main model in one batch, and the draft "
        "model's reading of that batch, divided by the tokens that this gave.",
        summary=f"{names.labels[first.job_id]}: {percent(decoding.draft_share)} drafting, "
        f"{percent(decoding.verify_share)} verifying.",
        data=data,
        layout={
            "barmode": "stack",
            "xaxis": axis("ms a token", rangemode="tozero"),
            "yaxis": {"type": "category", "automargin": True, "autorange": "reversed"},
            "showlegend": True,
        },
        height=150 + 34 * (len(plain) + len(known)),
    )


def _bars(name: str, labels: Sequence[str], values: Sequence[float], colour: str) -> Trace:
    return {
        "type": "bar", "orientation": "h", "name": name, "x": list(values), "y": list(labels),
        "marker": {"color": colour}, "hovertemplate": f"%{{y}}, {name}: %{{x:.2f}} ms<extra></extra>",
    }  # fmt: skip
