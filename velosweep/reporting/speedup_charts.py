"""The charts of speedups: over n_draft, as a forest of jobs or prompts, as heat maps; and both modes' speeds."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from velosweep.reporting.chart import (
    SPECULATIVE,
    VANILLA,
    Chart,
    Trace,
    axis,
    error_bar,
    heat_trace,
    n_draft_axis,
    rounded,
    scatter,
    series_style,
    with_levels,
)
from velosweep.reporting.wording import (
    MOST_SERIES,
    VERDICT_SIGNS,
    by_prompt,
    jobs_by_series,
    join_words,
    leading_series,
    names_of,
    number,
    percent,
    plus_minus,
    speedup_words,
    unpaired,
)
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.ranking import best_estimate
from velosweep.units import plural
from velosweep.values import Verdict


def main_chart(jobs: Sequence[Comparison], rows: Sequence[Comparison], target: float) -> Chart | None:
    """Speedup over n_draft; without a grid, speedups of jobs or prompts; without speedups, the modes' speeds."""
    rated = _rated(jobs)
    if len({job.n_draft for job in rated}) > 1:
        return _speedup_over_n_draft(rated, target)
    if len(rated) > 1:
        labels = names_of(rated).labels
        return _forest({labels[job.job_id]: job for job in reversed(rated)}, "main", "Speedup of each setting")
    prompts = prompts_chart(rows, rated[0], "main", "Speedup by prompt") if rated else None
    return prompts or _both_modes(jobs)


def prompts_chart(rows: Sequence[Comparison], job: Comparison, chart_id: str, title: str) -> Chart | None:
    """Speedup of each prompt for one job; None for one prompt."""
    prompts = sorted(_rated(by_prompt(rows, job.job_id)), key=_value)
    return _forest({row.prompt_id or "": row for row in prompts}, chart_id, title) if len(prompts) > 1 else None


def _rated(rows: Iterable[Comparison]) -> list[Comparison]:
    return [row for row in rows if best_estimate(row) is not None]


def _value(job: Comparison) -> float:
    return rounded(best_estimate(job) or 0.0)


def _speedup_trace(
    index: int, name: str, members: Sequence[Comparison], places: Sequence[Any], value_axis: str, **more: Any
) -> Trace:
    """Speedups with their intervals along `value_axis` (x or y), each at its place on the other axis.

    Markers are hollow where the gain isn't sure, a cross where the result can't be used.
    """
    colour, shape, _ = series_style(index)
    shapes = {Verdict.INVALID: "x", Verdict.FASTER: shape}
    symbols = [shapes.get(job.verdict, f"{shape}-open") for job in members]
    marker = {"size": 9, "color": colour, "symbol": symbols, "line": {"width": 2, "color": colour}}
    values = [_value(job) for job in members]
    bars = error_bar(values, [job.ci_low for job in members], [job.ci_high for job in members], color=colour)
    x, y = (values, places) if value_axis == "x" else (places, values)
    return scatter(name or "measured", x, y, hover="%{text}", marker=marker, **{f"error_{value_axis}": bars}, **more)


def _speedup_over_n_draft(jobs: Sequence[Comparison], target: float) -> Chart:
    """Speedup with its interval over n_draft, a line for each of the leading series."""
    leading, unshown = leading_series(jobs), len(jobs_by_series(jobs)) - MOST_SERIES
    data: list[Trace] = []
    words = []
    for index, (name, members) in enumerate(leading.items()):
        drafts = [job.n_draft for job in members]
        hovers = [
            f"<b>n_draft {job.n_draft}: {speedup_words(job)}</b><br>{job.verdict.words}, "
            f"{'unpaired runs' if unpaired(job) else plural(job.n_pairs, 'pair')}"
            f"{f'<br>acceptance {percent(job.acceptance.rate)}' if job.acceptance else ''}"
            for job in members
        ]
        line = {"color": series_style(index)[0], "width": 2}
        data.append(_speedup_trace(index, name, members, drafts, "y", line=line, text=hovers))
        best = max(members, key=lambda job: best_estimate(job) or 0.0)
        words.append(f"{name}{': ' if name else ''}{speedup_words(best)} at n_draft {best.n_draft}")
    further = f" {plural(unshown, 'further line')}, none higher: see the results." if unshown > 0 else ""
    layout = {"xaxis": n_draft_axis(jobs), "yaxis": axis("speedup (×)"), "hovermode": "closest"}
    levels = {1.0: "no gain"} | ({target: f"target {target:g}×"} if target != 1 else {})
    return Chart(
        id="main",
        title="Speedup over n_draft",
        caption="Points: geometric mean of paired runs; bars: 95 % interval; filled: surely faster than vanilla, "
        "hollow: not, ✗: not usable.",
        summary=f"Highest: {'; '.join(words)}.{further}",
        data=data,
        layout=with_levels(layout, levels, across="y"),
        height=420,
    )


def _forest(rows: Mapping[str, Comparison], chart_id: str, title: str) -> Chart:
    """Rows by label, bottom up. Markers show the prompt's category where there are several."""
    categories = list(dict.fromkeys(row.prompt_category or "" for row in rows.values()))
    data: list[Trace] = []
    several = len(categories) > 1
    for index, category in enumerate(categories):
        mine = {label: row for label, row in rows.items() if (row.prompt_category or "") == category}
        hovers = [f"{label}: {speedup_words(row)}" for label, row in mine.items()]
        members = list(mine.values())
        data.append(_speedup_trace(index, category, members, list(mine), "x", showlegend=several, text=hovers))
    layout = {
        "xaxis": axis("speedup (×)"),
        "yaxis": {"type": "category", "categoryorder": "array", "categoryarray": list(rows), "automargin": True},
    }
    values = {label: _value(row) for label, row in rows.items()}
    low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
    return Chart(
        id=chart_id,
        title=title,
        caption="Bars: 95 % interval; filled: surely faster than vanilla, hollow: not.",
        summary=f"Speedups from {values[low]:.2f}× ({low}) to {values[high]:.2f}× ({high}).",
        data=data,
        layout=with_levels(layout, {1.0: "no gain"}, across="x"),
        height=140 + 24 * len(rows),
    )


def _both_modes(jobs: Sequence[Comparison]) -> Chart | None:
    """Decoding speed of both modes, each run a point: for a single job, or where vanilla was skipped."""
    labels = names_of(jobs).labels
    vanilla = [("vanilla", job.vanilla.tokens_per_second, VANILLA, "circle") for job in jobs if job.vanilla][:1]
    speculative = [(labels[job.job_id], job.speculative) for job in jobs if job.speculative]
    strips = [*vanilla, *((label, mode.tokens_per_second, SPECULATIVE, "square") for label, mode in speculative)]
    if not strips:
        return None
    data: list[Trace] = []
    for name, stats, colour, symbol in reversed(strips):
        runs = [rounded(value) for value in stats.samples]
        dots = {"size": 10, "opacity": 0.55, "color": colour, "symbol": symbol}
        data.append(scatter(name, runs, [name] * len(runs), hover="%{x:.2f} tok/s", marker=dots))
        spread = {"type": "data", "array": [rounded(stats.stddev or 0.0)], "thickness": 2, "width": 8, "color": colour}
        bar = {"size": 14, "symbol": "line-ns-open", "color": colour, "line": {"width": 3}}
        hover = f"mean {plus_minus(stats)} tok/s"
        data.append(scatter(f"{name}, mean", [rounded(stats.mean)], [name], hover=hover, marker=bar, error_x=spread))
    return Chart(
        id="main",
        title="Decoding speed, each run a point",
        caption="Circles: vanilla runs; squares: speculative runs; bar: mean ± standard deviation.",
        summary=f"Tokens per second: {join_words(f'{name} {plus_minus(stats, 1)}' for name, stats, *_ in strips)}.",
        data=data,
        layout={
            "xaxis": axis("tokens per second", rangemode="tozero"),
            "yaxis": {"type": "category", "automargin": True},
            "showlegend": False,
        },
        height=150 + 60 * len(strips),
    )


def heat_map(jobs: Sequence[Comparison]) -> Chart | None:
    """Setting × n_draft; None unless there are at least two of each."""
    rows = {name: {job.n_draft: job for job in reversed(found)} for name, found in jobs_by_series(_rated(jobs)).items()}
    return _heat("heat", "Setting × n_draft", "setting", rows)


def prompt_heat_map(
    jobs: Sequence[Comparison], rows: Sequence[Comparison], best: Comparison, chart_id: str
) -> Chart | None:
    """Prompt × n_draft for the series of the advised job; None for one prompt or one n_draft."""
    series = {job.job_id for job in jobs_by_series(jobs)[names_of(jobs).series[best.job_id]]}
    cells: dict[str, dict[int, Comparison]] = {row.prompt_id or "": {} for row in by_prompt(rows, best.job_id)}
    for row in rows:
        if row.job_id in series and row.prompt_id in cells:
            cells[row.prompt_id][row.n_draft] = row
    return _heat(chart_id, "Prompt × n_draft", "prompt", cells) if len(cells) <= 200 else None


def _heat(chart_id: str, title: str, what: str, rows: Mapping[str, Mapping[int, Comparison]]) -> Chart | None:
    """Speedups by row and n_draft; None unless there are at least two of each."""
    drafts = sorted({n_draft for row in rows.values() for n_draft in row})
    rated = [(value, name, n_draft) for name, row in rows.items() for n_draft in drafts
             if n_draft in row and (value := best_estimate(row[n_draft])) is not None]  # fmt: skip
    if len(rows) < 2 or len(drafts) < 2 or not rated:
        return None
    trace = heat_trace(
        [[row.get(n_draft) for n_draft in drafts] for row in rows.values()],
        lambda cell: None if best_estimate(cell) is None else _value(cell),
        lambda cell: f"{number(best_estimate(cell))}{VERDICT_SIGNS[cell.verdict]}",
        lambda cell: f"{speedup_words(cell)}, {cell.verdict.words}",
        middle=1.0,
        where="%{y}<br>n_draft %{x}: ",
        x=[str(n_draft) for n_draft in drafts],
        y=list(rows),
    )
    top, name, n_draft = max(rated, key=lambda entry: entry[0])
    return Chart(
        id=chart_id,
        title=title,
        caption="▲ surely faster, ▼ surely slower, ≈ no reliable gain, ? not converged, ✗ not usable.",
        summary=f"Highest at {what} {name}, n_draft {n_draft}: {top:.2f}×.",
        data=[trace],
        layout={
            "xaxis": {"title": {"text": "n_draft"}, "type": "category"},
            "yaxis": {"type": "category", "automargin": True, "autorange": "reversed"},
        },
        height=130 + 30 * len(rows),
    )
