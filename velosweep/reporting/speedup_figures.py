"""The figures of speedups: over n_draft, as a forest of jobs or prompts, as heat maps; and both modes' speeds."""

from __future__ import annotations

from collections.abc import Sequence

from velosweep.reporting.figure import (
    SPECULATIVE,
    VANILLA,
    Figure,
    Trace,
    axis,
    error_bar,
    n_draft_axis,
    rounded,
    scatter,
    series_colour,
    verdict_marker,
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
    """Speedup over n_draft; without a grid, speedups of jobs or prompts; without speedups, the modes' speeds."""
    rated = [job for job in jobs if best_estimate(job) is not None]
    if len({job.n_draft for job in rated}) > 1:
        return _speedup_over_n_draft(rated, target)
    if len(rated) > 1:
        labels = job_labels(rated)
        return _forest(rated[::-1], [labels[job.job_id] for job in rated[::-1]], "main", "Speedup of each job")
    if rated and len(prompts := _rated(by_prompt(rows, rated[0].job_id))) > 1:
        return _forest(prompts, [row.prompt_id or "" for row in prompts], "main", "Speedup by prompt")
    return _both_modes(jobs)


def prompts_figure(rows: Sequence[Comparison], best: Comparison, label: str) -> Figure | None:
    """Speedup of each prompt for the advised job; None for one prompt."""
    prompts = _rated(by_prompt(rows, best.job_id))
    if len(prompts) < 2:
        return None
    figure_id = f"prompts-{best.job_num if best.job_num is not None else best.job_id}"
    return _forest(prompts, [row.prompt_id or "" for row in prompts], figure_id, f"Speedup by prompt: {label}")


def _rated(rows: Sequence[Comparison]) -> list[Comparison]:
    return sorted((row for row in rows if best_estimate(row) is not None), key=_value)


def _value(job: Comparison) -> float:
    return rounded(best_estimate(job) or 0.0)


# ---------------------------------------------------------------- over n_draft


def _speedup_over_n_draft(jobs: Sequence[Comparison], target: float) -> Figure:
    """Speedup with its interval over n_draft, and the expected curve, for each pair."""
    data: list[Trace] = []
    words = []
    for index, (name, members) in enumerate(series_of(jobs).items()):
        data += _speedup_traces(index, name, members)
        best = max(members, key=lambda job: best_estimate(job) or 0.0)
        words.append(f"{name or 'The speedup'} peaks at n_draft {best.n_draft} with {speedup(best)}")
    layout = {"xaxis": n_draft_axis(job.n_draft for job in jobs), "yaxis": axis("speedup (×)"), "hovermode": "closest"}
    levels = {1.0: "no gain"} | ({target: f"target {target:g}×"} if target != 1 else {})
    return Figure(
        id="main",
        title="Speedup over n_draft",
        caption="Points: geometric mean of paired runs; bars: 95 % interval; filled: surely faster than vanilla, "
        "hollow: not sure, ✗: not usable. Dashed: what acceptance and draft cost promise.",
        summary=f"{'; '.join(words)}.",
        data=data,
        layout=with_levels(layout, levels),
        height=420,
    )


def _speedup_traces(index: int, name: str, members: Sequence[Comparison]) -> list[Trace]:
    colour = series_colour(index)
    values = [_value(job) for job in members]
    bars = error_bar(values, [job.ci_low for job in members], [job.ci_high for job in members], color=colour)
    measured = scatter(
        name or "measured",
        [job.n_draft for job in members],
        values,
        hover="%{text}",
        marker=verdict_marker(members, index),
        line={"color": colour, "width": 2},
        error_y=bars,
        legendgroup=str(index),
        text=[_hover(job) for job in members],
    )
    expected = [(job.n_draft, rounded(job.expected_speedup)) for job in members if job.expected_speedup is not None]
    if not expected:
        return [measured]
    curve = scatter(
        f"expected{', ' + name if name else ''}",
        [n_draft for n_draft, _ in expected],
        [value for _, value in expected],
        hover="n_draft %{x}: expected %{y:.2f}×",
        line={"color": colour, "width": 1.5, "dash": "dash"},
        legendgroup=str(index),
    )
    return [measured, curve]


def _hover(job: Comparison) -> str:
    accepted = f"<br>acceptance {percent(job.acceptance.rate)}" if job.acceptance else ""
    return (
        f"<b>n_draft {job.n_draft}: {speedup(job)}</b><br>{VERDICT_WORDS[job.verdict]}, "
        f"{'unpaired runs' if unpaired(job) else plural(job.n_pairs, 'pair')}{accepted}"
    )


# ---------------------------------------------------------------- a row a job or prompt


def _forest(rows: Sequence[Comparison], labels: Sequence[str], figure_id: str, title: str) -> Figure:
    """Rows bottom up. Markers take their shape and colour from the prompt's category where there are several."""
    categories = list(dict.fromkeys(row.prompt_category or "" for row in rows))
    data: list[Trace] = []
    for index, category in enumerate(categories):
        mine = [
            (row, label) for row, label in zip(rows, labels, strict=True) if (row.prompt_category or "") == category
        ]
        members = [row for row, _ in mine]
        centres = [_value(row) for row in members]
        bars = error_bar(centres, [row.ci_low for row in members], [row.ci_high for row in members])
        trace = scatter(
            category or "measured",
            centres,
            [label for _, label in mine],
            hover="%{text}",
            marker=verdict_marker(members, index),
            error_x={**bars, "color": series_colour(index)},
            showlegend=len(categories) > 1,
            text=[f"{label}: {speedup(row)}" for row, label in mine],
        )
        data.append(trace)
    layout = {
        "xaxis": axis("speedup (×)"),
        "yaxis": {"type": "category", "categoryorder": "array", "categoryarray": list(labels), "automargin": True},
    }
    values = [_value(row) for row in rows]
    lowest, highest = min(values), max(values)
    return Figure(
        id=figure_id,
        title=title,
        caption="Bars: 95 % interval; filled: surely faster than vanilla, hollow: not sure.",
        summary=f"Speedups from {lowest:.2f}× ({labels[values.index(lowest)]}) to {highest:.2f}× "
        f"({labels[values.index(highest)]}).",
        data=data,
        layout=with_levels(layout, {1.0: "no gain"}, x_axis=True),
        height=140 + 24 * len(rows),
    )


# ---------------------------------------------------------------- both modes' speeds


def _both_modes(jobs: Sequence[Comparison]) -> Figure | None:
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
    means = listed(f"{name} {plus_minus(stats, 1)}" for name, stats, _ in strips)
    return Figure(
        id="main",
        title="Decoding speed, each run a point",
        caption="Circles: vanilla runs; squares: speculative runs; bar: mean ± standard deviation.",
        summary=f"Tokens per second: {means}.",
        data=[trace for strip in reversed(strips) for trace in _strip(*strip)],
        layout={
            "xaxis": axis("tokens per second", rangemode="tozero"),
            "yaxis": {"type": "category", "automargin": True},
            "showlegend": False,
        },
        height=150 + 60 * len(strips),
    )


def _strip(name: str, stats: Statistics, vanilla: bool) -> list[Trace]:
    colour, symbol = (VANILLA, "circle") if vanilla else (SPECULATIVE, "square")
    runs = scatter(
        name,
        [rounded(value) for value in stats.samples],
        [name] * len(stats.samples),
        hover="%{x:.2f} tok/s",
        marker={"size": 10, "opacity": 0.55, "color": colour, "symbol": symbol},
    )
    spread = {"type": "data", "array": [rounded(stats.stddev or 0.0)], "thickness": 2, "width": 8, "color": colour}
    mean = scatter(
        f"{name}, mean",
        [rounded(stats.mean)],
        [name],
        hover=f"mean {plus_minus(stats)} tok/s",
        marker={"size": 14, "symbol": "line-ns-open", "color": colour, "line": {"width": 3}},
        error_x=spread,
    )
    return [runs, mean]


# ---------------------------------------------------------------- heat maps


def heat_map(jobs: Sequence[Comparison]) -> Figure | None:
    """Pair × n_draft; None unless there are at least two of each."""
    series = series_of(job for job in jobs if best_estimate(job) is not None)
    drafts = sorted({job.n_draft for members in series.values() for job in members})
    if len(series) < 2 or len(drafts) < 2:
        return None
    by_n_draft = [{job.n_draft: job for job in reversed(members)} for members in series.values()]
    cells = [[row.get(n_draft) for n_draft in drafts] for row in by_n_draft]
    return _heat("heat", "Pair × n_draft", list(series), drafts, cells, "series")


def prompt_heat_map(jobs: Sequence[Comparison], rows: Sequence[Comparison], best: Comparison) -> Figure | None:
    """Prompt × n_draft for the series of the advised job; None for one prompt or one n_draft."""
    series = next((members for members in series_of(jobs).values() if best in members), [])
    prompts = list(dict.fromkeys(str(row.prompt_id) for row in by_prompt(rows, best.job_id)))
    if not 2 <= len(prompts) <= 200 or len(series) < 2:
        return None
    found = {(row.prompt_id, row.job_id): row for row in rows if row.prompt_id is not None}
    cells = [[found.get((prompt, job.job_id)) for job in series] for prompt in prompts]
    return _heat("prompt-heat", "Prompt × n_draft", prompts, [job.n_draft for job in series], cells, "prompt")


def _heat(
    figure_id: str, title: str, names: list[str], drafts: list[int], cells: list[list[Comparison | None]], what: str
) -> Figure:
    values = [[None if cell is None else best_estimate(cell) for cell in row] for row in cells]
    known = [(value, y, x) for y, row in enumerate(values) for x, value in enumerate(row) if value is not None]
    reach = max([abs(value - 1) for value, _, _ in known] or [1.0]) or 1.0
    trace: Trace = {
        "type": "heatmap", "x": [str(n_draft) for n_draft in drafts], "y": names,
        "z": [[None if value is None else rounded(value) for value in row] for row in values],
        "zmin": rounded(1 - reach), "zmax": rounded(1 + reach), "xgap": 2, "ygap": 2,
        "colorscale": [[0, "--low"], [0.5, "--mid"], [1, "--high"]],
        "text": [["" if cell is None else f"{number(best_estimate(cell))}{VERDICT_SIGNS[cell.verdict]}" for cell in row]
                 for row in cells],
        "texttemplate": "%{text}", "colorbar": {"title": {"text": "×"}, "thickness": 12},
        "customdata": [["" if cell is None else f"{speedup(cell)}, {VERDICT_WORDS[cell.verdict]}" for cell in row]
                       for row in cells],
        "hovertemplate": "%{y}<br>n_draft %{x}: %{customdata}<extra></extra>",
    }  # fmt: skip
    top, y, x = max(known)
    return Figure(
        id=figure_id,
        title=title,
        caption="▲ surely faster, ▼ surely slower, ≈ no reliable gain, ? not converged, ✗ not usable.",
        summary=f"Highest at {what} {names[y]}, n_draft {drafts[x]}: {top:.2f}×.",
        data=[trace],
        layout={
            "xaxis": {"title": {"text": "n_draft"}, "type": "category"},
            "yaxis": {"type": "category", "automargin": True, "autorange": "reversed"},
        },
        height=130 + 30 * len(names),
    )
