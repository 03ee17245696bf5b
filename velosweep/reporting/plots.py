"""PNG and SVG of the main plot, for slides. Needs matplotlib (extra `plots`): no browser, no window."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from velosweep.errors import ConfigError, install_extra
from velosweep.records import SweepRecord
from velosweep.reporting.answer import answers
from velosweep.reporting.wording import job_labels, series_of, target_of, whole_jobs
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.ranking import best_estimate
from velosweep.values import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("png", "svg")
_COLOURS = ("#0b62b8", "#b34700", "#00785a", "#a3308f", "#7a5c00", "#2e6f8e", "#8b1e3f")
_MARKERS = ("o", "s", "D", "^", "p", "h", "*")


def require_matplotlib() -> None:
    """Raises ConfigError where it is not installed."""
    if find_spec("matplotlib") is None:
        raise ConfigError("report.plots=true needs matplotlib, which is not installed", remedy=install_extra("plots"))


def main_plots(comparisons: Iterable[Comparison], record: SweepRecord) -> dict[str, bytes]:
    """The main plot by format (`png`, `svg`); the same input gives the same bytes. Empty where nothing was measured.

    Raises ConfigError where matplotlib is not installed.
    """
    rows = list(comparisons)
    jobs = whole_jobs(rows)
    if not any(job.speculative or job.vanilla for job in jobs):
        return {}
    require_matplotlib()
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # The hash salt makes the SVG's ids, and so its bytes, follow from the content alone.
    with mpl.rc_context({"svg.hashsalt": record.sweep_id, "font.size": 11, "svg.fonttype": "path"}):
        figure = Figure(figsize=(8, 4.5), dpi=200, layout="constrained")
        axes = figure.add_subplot()
        _draw(axes, jobs, record)
        found = answers(rows, record)
        if len(found) == 1:
            axes.set_title(_plain(found[0].headline), loc="left", fontsize=12, fontweight="bold", wrap=True)
        return {form: _saved(figure, form) for form in FORMATS}


def _saved(figure: Any, form: str) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format=form, metadata={"Date": None} if form == "svg" else {"Software": "velosweep"})
    return out.getvalue()


def _plain(text: str) -> str:
    """`text` as matplotlib shows it: a dollar sign would begin a formula."""
    return text.replace("$", r"\$")


def _draw(axes: Axes, jobs: Sequence[Comparison], record: SweepRecord) -> None:
    rated = [job for job in jobs if best_estimate(job) is not None]
    if len({job.n_draft for job in rated}) > 1:
        _speedup_over_n_draft(axes, rated, target_of(record, rated[0].job_id))
    elif rated:
        _forest(axes, rated)
    else:
        _rates(axes, jobs)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)


def _speedup_over_n_draft(axes: Axes, jobs: Sequence[Comparison], target: float) -> None:
    for index, (name, members) in enumerate(series_of(jobs).items()):
        colour, marker = _COLOURS[index % len(_COLOURS)], _MARKERS[(index + index // len(_COLOURS)) % len(_MARKERS)]
        drafts = [job.n_draft for job in members]
        values = [best_estimate(job) or 0.0 for job in members]
        axes.errorbar(drafts, values, yerr=_errors(members), color=colour, capsize=3, label=_plain(name) or "measured")
        for job, value in zip(members, values, strict=True):
            filled = colour if job.verdict is Verdict.FASTER else "white"
            axes.plot(job.n_draft, value, marker=marker, color=colour, markerfacecolor=filled, markersize=7)
        expected = [(job.n_draft, job.expected_speedup) for job in members if job.expected_speedup is not None]
        if expected:
            label = "expected" if index == 0 else None
            axes.plot(*zip(*expected, strict=True), color=colour, linestyle="--", linewidth=1, label=label)
    axes.axhline(1, color="#555555", linewidth=1)
    axes.axhline(target, color="#555555", linewidth=1, linestyle=":")
    ticks = sorted({job.n_draft for job in jobs})
    if len(ticks) <= 16:
        axes.set_xticks(ticks)
    axes.set_xlabel("n_draft")
    axes.set_ylabel("speedup (×), 95 % interval")
    axes.legend(frameon=False, fontsize=9)


def _errors(jobs: Sequence[Comparison]) -> list[list[float]]:
    below, above = [], []
    for job in jobs:
        value = best_estimate(job) or 0.0
        below.append(0.0 if job.ci_low is None else value - job.ci_low)
        above.append(0.0 if job.ci_high is None else job.ci_high - value)
    return [below, above]


def _forest(axes: Axes, jobs: Sequence[Comparison]) -> None:
    labels = job_labels(jobs)
    places = list(range(len(jobs)))[::-1]
    values = [best_estimate(job) or 0.0 for job in jobs]
    axes.errorbar(values, places, xerr=_errors(jobs), fmt="o", color=_COLOURS[0], capsize=4)
    axes.axvline(1, color="#555555", linewidth=1)
    axes.set_yticks(places, [_plain(labels[job.job_id]) for job in jobs])
    axes.set_ylim(-0.8, len(jobs) - 0.2)
    axes.set_xlabel("speedup (×), 95 % interval; line: no gain")


def _rates(axes: Axes, jobs: Sequence[Comparison]) -> None:
    labels = job_labels(jobs)
    there = [(job, mode.tokens_per_second) for job in jobs if (mode := job.speculative or job.vanilla)]
    places = list(range(len(there)))[::-1]
    axes.errorbar(
        [stats.mean for _, stats in there], places, xerr=[stats.stddev or 0.0 for _, stats in there], fmt="s",
        color=_COLOURS[0], capsize=4,
    )  # fmt: skip
    axes.set_yticks(places, [_plain(labels[job.job_id]) for job, _ in there])
    axes.set_ylim(-0.8, len(there) - 0.2)
    axes.set_xlim(left=0)
    axes.set_xlabel("tokens per second, mean ± standard deviation")
