"""The figures that come from comparisons: speedup, heat map, acceptance, the three metrics, prompts."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from velosweep.reporting.figure import (
    SPECULATIVE,
    VANILLA,
    Figure,
    Trace,
    axis,
    error_bar,
    level,
    marker_symbol,
    n_draft_axis,
    rounded,
    series_colour,
    series_dash,
    series_symbol,
    with_levels,
)
from velosweep.reporting.wording import (
    VERDICT_SIGNS,
    VERDICT_WORDS,
    by_prompt,
    job_labels,
    listed,
    number,
    percent,
    plus_minus,
    series_of,
    speedup,
    unpaired,
)
from velosweep.statistics.comparison import Comparison, Statistics
from velosweep.statistics.ranking import best_estimate
from velosweep.units import plural


def main_figure(jobs: Sequence[Comparison], rows: Sequence[Comparison], target: float) -> Figure | None:
    """The picture that answers: speedup over n_draft; where there is no grid, what there is instead."""
    rated = [job for job in jobs if best_estimate(job) is not None]
    if len({job.n_draft for job in rated}) > 1:
        return speedup_over_n_draft(rated, target)
    if len(rated) > 1:
        return speedup_forest(rated, labels=job_labels(rated), figure_id="main")
    if rated and len(prompts := _rated(by_prompt(rows, rated[0].job_id))) > 1:
        return _forest(prompts, [row.prompt_id or "" for row in prompts], "main", "Speedup by prompt")
    return both_modes(jobs)


def _rated(rows: Sequence[Comparison]) -> list[Comparison]:
    return sorted((row for row in rows if best_estimate(row) is not None), key=lambda row: best_estimate(row) or 0.0)


def speedup_over_n_draft(jobs: Sequence[Comparison], target: float) -> Figure:
    """Speedup with its interval over n_draft, and the expected curve, for each pair."""
    data: list[Trace] = []
    words = []
    for index, (name, members) in enumerate(series_of(jobs).items()):
        data += _speedup_traces(index, name or "measured", members)
        best = max(members, key=lambda job: best_estimate(job) or 0.0)
        words.append(f"{name or 'The speedup'} peaks at n_draft {best.n_draft} with {speedup(best)}")
    layout = {"xaxis": n_draft_axis(job.n_draft for job in jobs), "yaxis": axis("speedup (×)"), "hovermode": "closest"}
    levels = [level(1.0, "no gain", dash="solid"), *([level(target, f"target {target:g}×")] if target != 1 else [])]
    return Figure(
        id="main",
        title="Speedup over n_draft",
        caption="Points: geometric mean of paired runs; bars: 95 % interval; filled: surely faster than vanilla, "
        "hollow: not sure, ✗: not usable. Dashed: what acceptance and draft cost promise.",
        summary=f"{'; '.join(words)}.",
        data=data,
        layout=with_levels(layout, *levels),
        height=420,
    )


def _speedup_traces(index: int, name: str, members: Sequence[Comparison]) -> list[Trace]:
    colour = series_colour(index)
    values = [rounded(best_estimate(job) or 0.0) for job in members]
    measured: Trace = {
        "type": "scatter", "mode": "lines+markers", "name": name, "legendgroup": str(index),
        "x": [job.n_draft for job in members], "y": values,
        "error_y": {**error_bar(values, [job.ci_low for job in members], [job.ci_high for job in members]),
                    "color": colour},
        "line": {"color": colour, "width": 2},
        "marker": {"size": 9, "color": colour, "symbol": [marker_symbol(job, index) for job in members],
                   "line": {"width": 2, "color": colour}},
        "text": [_hover(job) for job in members], "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip
    expected = [job for job in members if job.expected_speedup is not None]
    if not expected:
        return [measured]
    curve: Trace = {
        "type": "scatter", "mode": "lines", "name": f"expected{'' if name == 'measured' else ', ' + name}",
        "legendgroup": str(index), "x": [job.n_draft for job in expected],
        "y": [rounded(job.expected_speedup or 0.0) for job in expected],
        "line": {"color": colour, "width": 1.5, "dash": "dash"},
        "hovertemplate": "n_draft %{x}: expected %{y:.2f}×<extra></extra>",
    }  # fmt: skip
    return [measured, curve]


def _hover(job: Comparison) -> str:
    accepted = f"<br>acceptance {percent(job.acceptance.rate)}" if job.acceptance else ""
    return (
        f"<b>n_draft {job.n_draft}: {speedup(job)}</b><br>{VERDICT_WORDS[job.verdict]}, "
        f"{'unpaired runs' if unpaired(job) else plural(job.n_pairs, 'pair')}{accepted}"
    )


def speedup_forest(jobs: Sequence[Comparison], *, labels: dict[str, str], figure_id: str) -> Figure:
    """Speedup with its interval, a row a job."""
    names = [labels[job.job_id] for job in jobs]
    return _forest(list(jobs)[::-1], names[::-1], figure_id, "Speedup of each job")


def _forest(rows: Sequence[Comparison], labels: Sequence[str], figure_id: str, title: str) -> Figure:
    """Rows bottom up. Markers take their shape and colour from the prompt's category where there are several."""
    values = [rounded(best_estimate(row) or 0.0) for row in rows]
    groups = list(dict.fromkeys(row.prompt_category or "" for row in rows))
    data: list[Trace] = []
    for index, group in enumerate(groups):
        at = [place for place, row in enumerate(rows) if (row.prompt_category or "") == group]
        colour = series_colour(index)
        mine = [values[place] for place in at]
        data.append({
            "type": "scatter", "mode": "markers", "name": group or "measured", "x": mine,
            "y": [labels[place] for place in at], "showlegend": len(groups) > 1,
            "error_x": {**error_bar(mine, [rows[p].ci_low for p in at], [rows[p].ci_high for p in at]),
                        "color": colour},
            "marker": {"size": 9, "color": colour, "symbol": [marker_symbol(rows[p], index) for p in at],
                       "line": {"width": 2, "color": colour}},
            "text": [f"{labels[p]}: {speedup(rows[p])}" for p in at], "hovertemplate": "%{text}<extra></extra>",
        })  # fmt: skip
    layout = {
        "xaxis": axis("speedup (×)"),
        "yaxis": {"type": "category", "categoryorder": "array", "categoryarray": list(labels), "automargin": True},
    }
    levels = [level(1.0, "no gain", dash="solid", x_axis=True)]
    spread = f"from {min(values):.2f}× ({labels[values.index(min(values))]}) to {max(values):.2f}×"
    return Figure(
        id=figure_id,
        title=title,
        caption="Bars: 95 % interval; filled: surely faster than vanilla, hollow: not sure.",
        summary=f"Speedups {spread} ({labels[values.index(max(values))]}).",
        data=data,
        layout=with_levels(layout, *levels),
        height=140 + 24 * len(rows),
    )


def both_modes(jobs: Sequence[Comparison]) -> Figure | None:
    """Decoding speed of both modes, each run a point: for a single job, or where vanilla was skipped."""
    labels = job_labels(jobs)
    strips: list[tuple[str, Statistics, bool]] = []
    for job in jobs:
        if job.vanilla and not any(vanilla for _, _, vanilla in strips):
            strips.append(("vanilla", job.vanilla.tokens_per_second, True))
        if job.speculative:
            strips.append((labels[job.job_id], job.speculative.tokens_per_second, False))
    if not strips:
        return None
    data = [_strip(*strip) for strip in reversed(strips)]
    means = listed(f"{name} {plus_minus(stats, 1)}" for name, stats, _ in strips)
    return Figure(
        id="main",
        title="Decoding speed, each run a point",
        caption="Circles: vanilla runs; squares: speculative runs; bar: mean ± standard deviation.",
        summary=f"Tokens per second: {means}.",
        data=[trace for pair in data for trace in pair],
        layout={
            "xaxis": axis("tokens per second", rangemode="tozero"),
            "yaxis": {"type": "category", "automargin": True},
            "showlegend": False,
        },
        height=150 + 60 * len(strips),
    )


def _strip(name: str, stats: Statistics, vanilla: bool) -> list[Trace]:
    colour = VANILLA if vanilla else SPECULATIVE
    runs: Trace = {
        "type": "scatter", "mode": "markers", "name": name, "x": [rounded(value) for value in stats.samples],
        "y": [name] * len(stats.samples), "hovertemplate": "%{x:.2f} tok/s<extra></extra>",
        "marker": {"size": 10, "opacity": 0.55, "color": colour, "symbol": "circle" if vanilla else "square"},
    }  # fmt: skip
    mean: Trace = {
        "type": "scatter", "mode": "markers", "name": f"{name}, mean", "x": [rounded(stats.mean)], "y": [name],
        "error_x": {"type": "data", "array": [rounded(stats.stddev or 0.0)], "thickness": 2, "width": 8,
                    "color": colour},
        "marker": {"size": 14, "symbol": "line-ns-open", "color": colour, "line": {"width": 3}},
        "hovertemplate": f"mean {plus_minus(stats)} tok/s<extra></extra>",
    }  # fmt: skip
    return [runs, mean]


def heat_map(jobs: Sequence[Comparison]) -> Figure | None:
    """Pair × n_draft; None unless there are at least two of each."""
    series = series_of(job for job in jobs if best_estimate(job) is not None)
    drafts = sorted({job.n_draft for members in series.values() for job in members})
    if len(series) < 2 or len(drafts) < 2:
        return None
    grid = [[_cell(members, n_draft) for n_draft in drafts] for members in series.values()]
    return _heat("heat", "Pair × n_draft", list(series), drafts, grid, "series")


def prompt_heat_map(jobs: Sequence[Comparison], rows: Sequence[Comparison], best: Comparison) -> Figure | None:
    """Prompt × n_draft for the series of the advised job; None for one prompt or one n_draft."""
    series = next((members for members in series_of(jobs).values() if best in members), [])
    prompts = list(dict.fromkeys(row.prompt_id for row in by_prompt(rows, best.job_id)))
    drafts = [job.n_draft for job in series]
    if not 2 <= len(prompts) <= 200 or len(drafts) < 2:
        return None
    of = {(str(row.prompt_id), row.job_id): row for row in rows if row.prompt_id is not None}
    grid = [[of.get((str(prompt), job.job_id)) for job in series] for prompt in prompts]
    return _heat("prompt-heat", "Prompt × n_draft", [str(prompt) for prompt in prompts], drafts, grid, "prompt")


def _cell(members: Sequence[Comparison], n_draft: int) -> Comparison | None:
    return next((job for job in members if job.n_draft == n_draft), None)


def _heat(
    figure_id: str, title: str, names: list[str], drafts: list[int], grid: list[list[Comparison | None]], what: str
) -> Figure:
    values = [[None if cell is None else best_estimate(cell) for cell in row] for row in grid]
    known = [value for row in values for value in row if value is not None]
    reach = max([abs(value - 1) for value in known] or [1.0]) or 1.0
    trace: Trace = {
        "type": "heatmap", "x": [str(n_draft) for n_draft in drafts], "y": names,
        "z": [[None if value is None else rounded(value) for value in row] for row in values],
        "zmin": rounded(1 - reach), "zmax": rounded(1 + reach), "xgap": 2, "ygap": 2,
        "colorscale": [[0, "--low"], [0.5, "--mid"], [1, "--high"]],
        "text": [["" if cell is None else f"{number(best_estimate(cell))}{VERDICT_SIGNS[cell.verdict]}" for cell in row]
                 for row in grid],
        "texttemplate": "%{text}", "colorbar": {"title": {"text": "×"}, "thickness": 12},
        "customdata": [["" if cell is None else f"{speedup(cell)}, {VERDICT_WORDS[cell.verdict]}" for cell in row]
                       for row in grid],
        "hovertemplate": "%{y}<br>n_draft %{x}: %{customdata}<extra></extra>",
    }  # fmt: skip
    top = max(((value, row, column) for row, line in enumerate(values) for column, value in enumerate(line) if value))
    return Figure(
        id=figure_id,
        title=title,
        caption="▲ surely faster, ▼ surely slower, ≈ no reliable gain, ? not converged, ✗ not usable.",
        summary=f"Highest at {what} {names[top[1]]}, n_draft {drafts[top[2]]}: {top[0]:.2f}×.",
        data=[trace],
        layout={
            "xaxis": {"title": {"text": "n_draft"}, "type": "category"},
            "yaxis": {"type": "category", "automargin": True, "autorange": "reversed"},
        },
        height=130 + 30 * len(names),
    )


MOST_POSITION_LINES = 8


def acceptance_figure(jobs: Sequence[Comparison], advised: Collection[str] = ()) -> Figure | None:
    """Share of rounds in which draft position i was accepted; over n_draft where builds don't say positions.

    Shown at once: each series' longest draft, and the jobs whose ids are `advised`, which come first.
    """
    with_positions = [job for job in jobs if job.acceptance and job.acceptance.per_position]
    if not with_positions:
        return _acceptance_over_n_draft([job for job in jobs if job.acceptance])
    labels = job_labels(with_positions)
    longest = {members[-1].job_id for members in series_of(with_positions).values()}
    with_positions.sort(key=lambda job: (job.job_id not in advised, job.job_id not in longest))
    shown = {job.job_id for job in with_positions if job.job_id in {*advised, *longest}}
    if len(with_positions) > MOST_POSITION_LINES:
        with_positions = [job for job in with_positions if job.job_id in shown][:MOST_POSITION_LINES]
    data: list[Trace] = []
    for index, job in enumerate(with_positions):
        shares = _drafted(job)
        data.append({
            "type": "scatter", "mode": "lines+markers", "name": labels[job.job_id],
            "x": list(range(1, len(shares) + 1)), "y": [rounded(100 * share) for share in shares],
            "visible": True if job.job_id in shown or len(with_positions) <= 4 else "legendonly",
            "line": {"color": series_colour(index), "dash": series_dash(index)},
            "marker": {"symbol": series_symbol(index), "size": 7},
            "hovertemplate": f"{labels[job.job_id]}<br>position %{{x}}: %{{y:.1f}} %<extra></extra>",
        })  # fmt: skip
    first = with_positions[0].acceptance
    start = first.per_position[0] if first and first.per_position else None
    return Figure(
        id="acceptance",
        title="Acceptance by position",
        caption="Share of rounds in which the draft token at this position was accepted. Choose a name in the legend "
        "to show or hide it.",
        summary=f"{labels[with_positions[0].job_id]}: the first draft token is accepted in {percent(start)} of rounds.",
        data=data,
        layout={"xaxis": axis("position in the draft", dtick=1 if max(job.n_draft for job in jobs) <= 16 else None),
                "yaxis": axis("accepted (% of rounds)", range=[0, 102])},
    )  # fmt: skip


def _drafted(job: Comparison) -> tuple[float, ...]:
    """Acceptance at the positions that the job can draft; results of earlier versions go on with zeros."""
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
        data.append({
            "type": "scatter", "mode": "lines+markers", "name": name or "acceptance", "y": rates,
            "x": [job.n_draft for job in members], "error_y": error_bar(rates, lows, highs),
            "line": {"color": series_colour(index)},
            "marker": {"symbol": series_symbol(index), "size": 8},
            "hovertemplate": "n_draft %{x}: %{y:.1f} %<extra></extra>",
        })  # fmt: skip
    return Figure(
        id="acceptance",
        title="Acceptance over n_draft",
        caption="Accepted share of the drafted tokens; this build doesn't say at which positions.",
        summary=f"From {percent(min(j.acceptance.rate for j in jobs if j.acceptance))} to "
        f"{percent(max(j.acceptance.rate for j in jobs if j.acceptance))} of the drafted tokens were accepted.",
        data=data,
        layout={"xaxis": n_draft_axis(job.n_draft for job in jobs), "yaxis": axis("accepted (%)", range=[0, 102])},
    )


def prompts_figure(rows: Sequence[Comparison], best: Comparison, label: str) -> Figure | None:
    """Speedup of each prompt for the advised job; None for one prompt."""
    prompts = _rated(by_prompt(rows, best.job_id))
    if len(prompts) < 2:
        return None
    figure_id = f"prompts-{best.job_num if best.job_num is not None else best.job_id}"
    names = [row.prompt_id or "" for row in prompts]
    return _forest(prompts, names, figure_id, f"Speedup by prompt: {label}")
