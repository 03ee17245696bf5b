"""What the dozen lines at the end of a sweep leave to others: a single job in the specification's words and layout, and
all that `-v` adds."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from velosweep.records import SweepRecord
from velosweep.reporting.console import say, say_lines, width_of
from velosweep.reporting.escaping import clip
from velosweep.reporting.finding_text import grouped_findings
from velosweep.reporting.recommendation import Recommendation, with_answers
from velosweep.reporting.request_words import request_words
from velosweep.reporting.result_tables import detailed_job_table, with_failed
from velosweep.reporting.search_words import print_search, search_titles
from velosweep.reporting.speedup_hints import hint_heading, reasons_for_modest_speedup, target_reasons
from velosweep.reporting.table import print_table
from velosweep.reporting.wording import (
    by_prompt,
    first_few,
    interval_words,
    names_of,
    number,
    percent,
    plus_minus,
    target_of,
    whole_jobs,
    without_speedup,
)
from velosweep.results.derived_files import SweepResults
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.ranking import best_estimate
from velosweep.units import plural
from velosweep.values import Verdict

if TYPE_CHECKING:
    from rich.console import Console


def print_single(job: Comparison, record: SweepRecord, console: "Console") -> None:
    """Both modes, the speedup with its interval, acceptance, and whether the target was reached."""
    say(console, "=== Benchmark Results ===", style="bold")
    for name, stats in (("Vanilla", job.vanilla), ("Speculative", job.speculative)):
        if stats is not None:
            rate = stats.tokens_per_second
            say(console)
            say(console, f"{name} Results:")
            lines = (
                f"  Tokens/s:     {plus_minus(rate)} tok/s (min: {number(rate.min)}, max: {number(rate.max)})",
                f"  TTFT:         {plus_minus(stats.time_to_first_token_ms)} ms",
                f"  Total time:   {plus_minus(stats.total_time_ms)} ms",
            )
            say_lines(console, lines)
    say(console)
    say(console, "=== Performance Comparison ===", style="bold")
    if job.speedup is None:
        say(console, f"No speedup: {without_speedup(job, record)}")
    else:
        spread = "" if job.speedup_stddev is None else f" ± {job.speedup_stddev:.2f}x"
        say(console, f"📊 Speedup: {job.speedup:.2f}x{spread}", style="bold")
    if limits := interval_words(job):
        what = f"Mean ratio {number(job.speedup_gm)}×, 95 % interval {limits}"
        say(console, f"{what}, by {plural(job.n_pairs, 'pair')} of runs", indent=3)
    if seen := job.acceptance:
        text = f"Acceptance {percent(seen.rate)}"
        if seen.low is not None and seen.high is not None:
            text += f" [{100 * seen.low:.0f}, {100 * seen.high:.0f}]"
        if seen.tokens_per_round is not None:
            text += f", {seen.tokens_per_round:.1f} tokens a check"
        if job.cost_ratio is not None:
            text += f"; a drafted token costs {job.cost_ratio:.2f} of a main-model step"
        say(console, text, indent=3)
    if job.drafted is False:
        say(console, "⚠️ Nothing was drafted: that is vanilla measured twice", style="yellow")
    elif job.speedup is not None:
        _print_target(job, job.speedup, record, console)
    say(console)


def _print_target(job: Comparison, value: float, record: SweepRecord, console: "Console") -> None:
    """Whether the job reached its target, and what may help."""
    target = target_of(record, job.job_id)
    if value <= target or job.verdict is Verdict.INVALID:
        say(console, hint_heading(job), style="yellow")
        for reason in reasons_for_modest_speedup(job):
            say(console, f"- {reason}", indent=3)
    elif job.verdict is not Verdict.FASTER:
        why = "see the interval" if job.ci_low is not None else "one pair of runs has no interval"
        say(console, f"⚠️ Above the target speedup (>{target:g}x), but not surely: {why}", style="yellow")
    else:
        say(console, f"✅ Speculative decoding achieved target speedup (>{target:g}x)!", style="green")


def print_details(derived: SweepResults, found: Sequence[Recommendation], console: "Console") -> None:
    """All that the dozen lines leave out: every figure, how a search went, what each answer rests on, all findings."""
    rows, record = with_answers(derived.comparisons, found), derived.record
    jobs = whole_jobs(rows)
    labels = names_of(jobs).labels
    table = detailed_job_table(with_failed(jobs, record), record, ())
    if jobs:
        print_table(table, console)
        say(console)
    rated = [job for job in jobs if best_estimate(job) is not None]
    signs = {Verdict.FASTER: "", Verdict.SLOWER: " slower", Verdict.INVALID: " unusable"}
    if len(rated) > 2:  # of two the table says as much
        points = [(clip(labels[job.job_id], 32), job, signs.get(job.verdict, " ?")) for job in rated]
        _print_plot("Speedup (bar: 95 % interval)", points, console)
    for job_id, label in labels.items():
        prompts = (row for row in by_prompt(rows, job_id) if best_estimate(row) is not None)
        points = [(clip(row.prompt_id or "", 24), row, "") for row in prompts]
        if len(points) > 1:
            _print_plot(f"Speedup by prompt, {label}", points, console)
    for search, title in zip(record.searches, search_titles(record), strict=True):
        print_search(search, title, console=console)
        say(console)
    for answer in found:
        by_category = (f"by category: {words}" for words in answer.by_category)
        rests_on = (f"rests on {answer.rests_on}",) if answer.rests_on else ()
        for line in (*answer.ties, *by_category, *answer.notes, *rests_on):
            say(console, f"- {line}", indent=2)
        if answer.job is not None and not answer.costs and (words := request_words(answer.job)):
            say(console, f"- {words}", indent=2)
        for reason in target_reasons(answer, jobs, record) if not record.single else ():
            say(console, f"- consider: {reason}", indent=2)
    for advice, where in grouped_findings(jobs, labels, record):
        at = f" [{'; '.join(first_few(where, 4))}]" if len(jobs) > 1 else ""
        say(console, f"{advice.sign} {advice.sentence}{at} {advice.remedy}")
    say(console)


def _print_plot(title: str, points: Sequence[tuple[str, Comparison, str]], console: "Console") -> None:
    say(console, title)
    say_lines(console, [*interval_plot(points, width=min(width_of(console), 100)), ""])


def interval_plot(points: Sequence[tuple[str, Comparison, str]], *, width: int) -> list[str]:
    """Rows `label ─●─ 1.41×` on one scale with a line at 1; at most `width` characters wide.

    `points`: label, comparison with a speedup, and what is noted after the figure. The scale is linear and holds every
    interval and 1.
    """
    if not points:
        return []
    names = max(len(label) for label, _, _ in points)
    values = [best_estimate(row) or 0.0 for _, row, _ in points]
    figures = [f"{value:.2f}×{note}" for value, (_, _, note) in zip(values, points, strict=True)]
    room = max(width - names - max(map(len, figures)) - 4, 8)
    limits = [limit for _, row, _ in points for limit in (row.ci_low, row.ci_high) if limit is not None]
    low, high = min([1.0, *values, *limits]), max([1.0, *values, *limits])

    def place(value: float) -> int:
        share = (value - low) / ((high - low) or 1.0)
        return min(max(round(share * (room - 1)), 0), room - 1)

    rows = []
    for (label, row, _), value, text in zip(points, values, figures, strict=True):
        cells = [" "] * room
        cells[place(1.0)] = "┊"
        if row.ci_low is not None and row.ci_high is not None:
            first, last = place(row.ci_low), place(row.ci_high)
            cells[first : last + 1] = ["─"] * (last + 1 - first)
            if last > first:
                cells[first], cells[last] = "├", "┤"
        cells[place(value)] = "●"
        rows.append(f"{label:>{names}}  {''.join(cells)}  {text}")
    axis = [" "] * (room + 8)
    for value in (low, high, 1.0):
        text = f"{value:.2f}×"
        start = min(max(place(value) - len(text) // 2, 0), len(axis) - len(text))
        if all(cell == " " for cell in axis[max(start - 1, 0) : start + len(text) + 1]):  # else it would touch another
            axis[start : start + len(text)] = list(text)
    return [*rows, f"{'':>{names}}  {''.join(axis)}".rstrip()]
