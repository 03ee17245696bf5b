"""What a person reads after a sweep, in the specification's words and layout; the recommendation."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from velosweep.measuring.dispatch import MeasuringOutcome
from velosweep.records import SweepRecord
from velosweep.reporting.console import NORMAL, QUIET, VERBOSE, say, say_lines, width_of
from velosweep.reporting.escaping import clip
from velosweep.reporting.finding_text import grouped_findings
from velosweep.reporting.recommendation import Recommendation, recommend
from velosweep.reporting.result_tables import job_table, with_failed
from velosweep.reporting.search_words import print_search
from velosweep.reporting.speedup_hints import hint_heading, reasons_for_modest_speedup
from velosweep.reporting.table import terminal_lines
from velosweep.reporting.wording import (
    by_prompt,
    first_few,
    interval,
    job_labels,
    number,
    percent,
    plus_minus,
    recorded_labels,
    series_of,
    target_of,
    whole_jobs,
    without_speedup,
)
from velosweep.statistics.comparison import Comparison
from velosweep.statistics.ranking import best_estimate
from velosweep.units import plural
from velosweep.values import Verdict

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

    from velosweep.results.derived_files import SweepResults


def resume_command(root: Path) -> str:
    """The command that resumes the sweep in `root`."""
    return f"velosweep resume {shlex.quote(str(root))}"


def print_end(derived: SweepResults, measured: MeasuringOutcome, console: Console, *, verbosity: int) -> None:
    """The results of a sweep that has just ended, and why some are missing."""
    go_on = f"Go on with: {resume_command(derived.root)}"
    if measured.nothing_left and verbosity > QUIET:
        say(console, "Nothing was left to measure: this sweep is finished")
    if measured.interrupted and not derived.sample_count:
        say(console, f"Interrupted before anything was measured. {go_on}", whole=True)
        return
    print_results(derived, saved_to=str(derived.root), console=console, verbosity=verbosity)
    if measured.display_error:
        say(console, f"The progress display failed and was switched off: {measured.display_error}")
    if measured.interrupted:
        say(console, f"Interrupted; everything measured is saved. {go_on}", whole=True)


def print_results(derived: SweepResults, *, saved_to: str, console: Console, verbosity: int = NORMAL) -> None:
    """A job's results as the specification shows them, or a sweep's table and plot; the recommendation; the folder."""
    rows, record, quiet = derived.comparisons, derived.record, verbosity <= QUIET
    jobs = whole_jobs(rows)
    table = with_failed(jobs, record)
    if jobs:
        say(console)
        say(console, "=== Benchmark Results ===", style="bold")
    if len(table) == 1:
        _print_single(jobs[0], record, console)
    elif jobs:
        _print_sweep(table, record, console, plots=not quiet)
    if not quiet:
        if verbosity >= VERBOSE or len(jobs) == 1:
            for job_id, label in job_labels(jobs).items():
                prompts = (row for row in by_prompt(rows, job_id) if best_estimate(row) is not None)
                points = [(clip(row.prompt_id or "", 24), row, "") for row in prompts]
                if len(points) > 1:
                    _print_plot(f"Speedup by prompt, {label}", points, console)
                    say(console)
        for search in record.searches:
            print_search(search, console=console)
            say(console)
    recommendations = recommend(rows, record)
    for recommendation in recommendations:
        _print_recommendation(recommendation, jobs, record, console, quiet=quiet)
    _print_failures(jobs, record, derived.samples, console)
    if not quiet:
        reported = {advice.code for recommendation in recommendations for advice in recommendation.against}
        again = f"velosweep report {shlex.quote(saved_to.removesuffix('/report.html'))} -v"
        _print_findings(jobs, record, console, reported=None if verbosity >= VERBOSE else reported, again=again)
        if not saved_to.endswith(".html"):
            say(console, f"📈 Report: {saved_to}/report.html", whole=True)
    say(console, f"💾 Results saved to: {saved_to}", whole=True)


def _print_single(job: Comparison, record: SweepRecord, console: Console) -> None:
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
    if job.ci_low is not None:
        what = f"Mean ratio {number(job.speedup_gm)}×, 95 % interval {interval(job.ci_low, job.ci_high)}"
        say(console, f"{what} ({job.ci_method}, {plural(job.n_pairs, 'pair')})", indent=3)
    if seen := job.acceptance:
        text = f"Acceptance {percent(seen.rate)}"
        if seen.low is not None and seen.high is not None:
            text += f" {interval(100 * seen.low, 100 * seen.high, 0)}"
        if seen.tokens_per_round is not None:
            text += f", {seen.tokens_per_round:.1f} tokens a round"
        if job.cost_ratio is not None:
            text += f"; a drafted token costs {job.cost_ratio:.2f} of a main-model step"
        if job.expected_speedup is not None:
            text += f"; expected {job.expected_speedup:.2f}×"
        say(console, text, indent=3)
    if job.drafted is False:
        say(console, "⚠️ Nothing was drafted: that is vanilla measured twice", style="yellow")
    elif job.speedup is not None:
        _print_target(job, job.speedup, reasons_for_modest_speedup(job), record, console)
    say(console)


def _print_target(job: Comparison, value: float, reasons: Sequence[str], record: SweepRecord, console: Console) -> None:
    """Whether the job reached its target, and what may help; no `reasons` where the findings above say everything."""
    target = target_of(record, job.job_id)
    if value < target or job.verdict is Verdict.INVALID:
        also = "" if reasons else " a quieter machine, as said above"
        say(console, f"{hint_heading(job)}{also}", style="yellow")
        for reason in reasons:
            say(console, f"- {reason}", indent=3)
    elif job.ci_low is not None and job.verdict is not Verdict.FASTER:
        say(console, f"⚠️ Above the target speedup (>{target:g}x), but not surely: see the interval", style="yellow")
    else:
        say(console, f"✅ Speculative decoding achieved target speedup (>{target:g}x)!", style="green")


def _print_sweep(jobs: Sequence[Comparison], record: SweepRecord, console: Console, *, plots: bool) -> None:
    width = width_of(console)
    say(console)
    lines = terminal_lines(job_table(jobs, record, width=width), width=width)
    say_lines(console, lines)
    if "expected" in lines[0]:
        say(console, "expected: what acceptance and the draft's cost promise, were checking drafts free", style="dim")
    signs = {Verdict.FASTER: "", Verdict.SLOWER: " slower", Verdict.INVALID: " invalid"}
    for name, members in series_of(jobs).items() if plots else ():
        rated = (job for job in members if best_estimate(job) is not None)
        points = [(str(job.n_draft), job, signs.get(job.verdict, " ?")) for job in rated]
        if len(points) > 2:  # of two the table says as much
            say(console)
            _print_plot(f"Speedup over n_draft{', ' + name if name else ''} (bar: 95 % interval)", points, console)
    say(console)


def _print_plot(title: str, points: Sequence[tuple[str, Comparison, str]], console: Console) -> None:
    say(console, title)
    say_lines(console, interval_plot(points, width=min(width_of(console), 90)))


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


def _print_recommendation(
    found: Recommendation, jobs: Sequence[Comparison], record: SweepRecord, console: Console, *, quiet: bool
) -> None:
    for advice in found.against:
        say(console, f"{advice.sign} {advice.sentence} {advice.remedy}", style="yellow")
    prefix = f"{found.question}: " if found.question else ""
    say(console, f"{prefix}{found.headline}", style="bold green" if found.kind == "run" else "bold yellow")
    if found.command:
        say(console, found.command, indent=2, whole=True)
    if quiet:
        return
    by_category = (f"by category: {words}" for words in found.by_category)
    rests_on = (f"rests on {found.rests_on}",) if found.rests_on else ()
    for line in (*found.ties, *by_category, *found.notes, *rests_on):
        say(console, f"- {line}", indent=2)
    job = found.job
    if not record.single and job is not None and job.speedup is not None:
        reasons = reasons_for_modest_speedup(job, jobs, reported={advice.code for advice in found.against})
        _print_target(job, best_estimate(job) or job.speedup, reasons, record, console)
    say(console)


def _print_failures(
    jobs: Sequence[Comparison], record: SweepRecord, samples: pa.Table | None, console: Console
) -> None:
    """Why there are no results, the errors of failed jobs, and how many runs failed."""
    counts = Counter(samples["status"].to_pylist() if samples is not None else ())
    if not jobs:
        states = Counter(job.state for job in record.jobs)
        failed, pending, rest = states["failed"], states["pending"], states["done"] + states["partial"]
        words = [f"{plural(failed, 'job')} failed"] if failed else []
        if pending:
            words.append(f"{plural(pending, 'job')} did not come to an end (velosweep resume with its folder goes on)")
        if rest:
            words.append(f"no samples of {plural(rest, 'job')} are left in its folder")
        what = "No job came to a result" if counts else "Nothing was measured"
        say(console, f"{what}: {', '.join(words) or 'it has no jobs'}", style="bold yellow")
    labels = recorded_labels(record)
    for job in record.jobs:
        if job.state in {"failed", "partial"}:
            label = labels[job.id] if not record.single else "The job"
            what = "failed" if job.state == "failed" else "has failed runs"
            say(console, f"❌ {label} {what}: {job.error or 'see its samples and log'}", style="red")
    bad = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()) if status != "ok")
    if bad:
        say(console, f"⚠️ Of {counts.total()} runs: {bad}; none of these is averaged", style="yellow")


def _print_findings(
    jobs: Sequence[Comparison], record: SweepRecord, console: Console, *, reported: Collection[str] | None, again: str
) -> None:
    """All findings, or the grave ones without the `reported`, which a recommendation named; `again` shows the rest."""
    found = grouped_findings(jobs, job_labels(jobs), record)
    shown = found
    if reported is not None:
        found = [(advice, where) for advice, where in found if len(where) > 1 or advice.code not in reported]
        shown = [(advice, where) for advice, where in found if advice.rank < 2 and advice.code not in reported]
    for advice, where in shown:
        at = f" [{', '.join(first_few(where, 4))}]" if len(jobs) > 1 else ""
        say(console, f"{advice.sign} {advice.sentence}{at} {advice.remedy}")
    if hidden := len(found) - len(shown):
        say(console, f"{plural(hidden, 'further remark')} in report.html, or with: {again}", whole=True)
