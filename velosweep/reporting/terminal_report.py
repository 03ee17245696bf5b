"""What a person reads after a sweep, in the specification's words and layout; the recommendation."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from velosweep.records import SweepRecord
from velosweep.reporting.console import NORMAL, QUIET, VERBOSE, say, say_lines, width_of
from velosweep.reporting.escaping import clip
from velosweep.reporting.finding_text import grouped_findings
from velosweep.reporting.recommendation import Recommendation, recommend
from velosweep.reporting.result_tables import job_table, with_failed
from velosweep.reporting.search_words import print_search
from velosweep.reporting.speedup_hints import reasons_for_modest_speedup
from velosweep.reporting.table import terminal_lines
from velosweep.reporting.textplot import PlotRow, interval_plot
from velosweep.reporting.wording import (
    by_prompt,
    first_few,
    interval,
    job_labels,
    number,
    percent,
    plus_minus,
    series_of,
    target_of,
    whole_jobs,
    without_speedup,
)
from velosweep.results.derived_files import SweepResults
from velosweep.statistics.comparison import Comparison, ModeStatistics
from velosweep.statistics.ranking import best_estimate
from velosweep.units import plural
from velosweep.values import Verdict

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console


def print_results(derived: SweepResults, *, saved_to: str, console: Console, verbosity: int = NORMAL) -> None:
    """A job's results as the specification shows them, or a sweep's table and plot; the recommendation; the folder."""
    rows, record, samples = derived.comparisons, derived.record, derived.samples
    jobs = whole_jobs(rows)
    table = with_failed(jobs, record)
    if len(table) == 1:
        _print_single(jobs[0], record, console)
    elif jobs:
        _print_sweep(table, record, console, plot=verbosity > QUIET)
    if verbosity > QUIET:
        if verbosity >= VERBOSE or len(jobs) == 1:
            _print_prompts(jobs, rows, console)
        for search in record.searches:
            print_search(search, console=console)
            say(console)
    recommendations = recommend(rows, record)
    for recommendation in recommendations:
        _print_recommendation(recommendation, jobs, record, console, quiet=verbosity <= QUIET)
    if not jobs:
        what = "No job came to a result" if samples is not None and samples.num_rows else "Nothing was measured"
        say(console, f"{what}: {_why_nothing(record)}", style="bold yellow")
    _print_failures(record, samples, console)
    if verbosity > QUIET:
        reported = {code for recommendation in recommendations for code in _codes(recommendation)}
        _print_findings(jobs, record, reported, console, verbose=verbosity >= VERBOSE, saved_to=saved_to)
    if verbosity > QUIET and not saved_to.endswith(".html"):
        say(console, f"📈 Report: {saved_to}/report.html", whole=True)
    say(console, f"💾 Results saved to: {saved_to}", whole=True)


# ---------------------------------------------------------------- a single job


def _print_single(job: Comparison, record: SweepRecord, console: Console) -> None:
    say(console)
    say(console, "=== Benchmark Results ===", style="bold")
    for name, stats in (("Vanilla", job.vanilla), ("Speculative", job.speculative)):
        if stats is not None:
            say(console)
            say(console, f"{name} Results:")
            say_lines(console, _mode_lines(stats))
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
    if job.acceptance is not None:
        say(console, _acceptance_words(job), indent=3)
    if job.speedup is not None:
        _print_target(job, job.speedup, record, console)
    say(console)


def _mode_lines(stats: ModeStatistics) -> list[str]:
    rate = stats.tokens_per_second
    return [
        f"  Tokens/s:     {plus_minus(rate)} tok/s (min: {number(rate.min)}, max: {number(rate.max)})",
        f"  TTFT:         {plus_minus(stats.time_to_first_token_ms)} ms",
        f"  Total time:   {plus_minus(stats.total_time_ms)} ms",
    ]


def _acceptance_words(job: Comparison) -> str:
    """`Acceptance 42 % [38, 45], 4.4 tokens a round; a draft step costs 0.08 of a main-model step; expected 2.41×`."""
    seen = job.acceptance
    if seen is None:
        return ""
    text = f"Acceptance {percent(seen.rate)}"
    if seen.low is not None and seen.high is not None:
        text += f" {interval(100 * seen.low, 100 * seen.high, 0)}"
    if seen.tokens_per_round is not None:
        text += f", {seen.tokens_per_round:.1f} tokens a round"
    if job.cost_ratio is not None:
        text += f"; a draft step costs {job.cost_ratio:.2f} of a main-model step"
    if job.expected_speedup is not None:
        text += f"; expected {job.expected_speedup:.2f}×"
    return text


def _print_target(
    job: Comparison,
    value: float,
    record: SweepRecord,
    console: Console,
    *,
    measured: Sequence[Comparison] = (),
    reported: Collection[str] = (),
) -> None:
    """Whether the job reached its target, and what may help. `reported`: codes of the findings shown above."""
    target = target_of(record, job.job_id)
    if value >= target and job.verdict is not Verdict.INVALID:
        if job.ci_low is not None and job.verdict is not Verdict.FASTER:
            say(console, f"⚠️ Above the target speedup (>{target:g}x), but not surely: see the interval", style="yellow")
        else:
            say(console, f"✅ Speculative decoding achieved target speedup (>{target:g}x)!", style="green")
        return
    reasons = reasons_for_modest_speedup(job, measured, reported=reported)
    also = "" if reasons else " a quieter machine, as said above"
    say(console, f"⚠️ Modest speedup. Consider:{also}", style="yellow")
    for reason in reasons:
        say(console, f"- {reason}", indent=3)


# ---------------------------------------------------------------- a sweep


def _print_sweep(jobs: Sequence[Comparison], record: SweepRecord, console: Console, *, plot: bool) -> None:
    width = width_of(console)
    say(console)
    say(console, "=== Benchmark Results ===", style="bold")
    say(console)
    lines = terminal_lines(job_table(jobs, record, width=width), width=width)
    say_lines(console, lines)
    if "expected" in lines[0]:
        say(console, "expected: what acceptance and the draft's cost promise, were checking drafts free", style="dim")
    signs = {Verdict.FASTER: "", Verdict.SLOWER: " slower", Verdict.INVALID: " invalid"}
    for name, members in series_of(jobs).items() if plot else ():
        points = [_plot_row(str(job.n_draft), job, signs.get(job.verdict, " ?")) for job in _rated(members)]
        if len(points) > 2:  # of two the table says as much
            say(console)
            say(console, f"Speedup over n_draft{', ' + name if name else ''} (bar: 95 % interval)")
            say_lines(console, interval_plot(points, width=min(width, 90)))
    say(console)


def _print_prompts(jobs: Sequence[Comparison], rows: Sequence[Comparison], console: Console) -> None:
    labels = job_labels(jobs)
    for job in jobs:
        prompts = _rated(by_prompt(rows, job.job_id))
        if len(prompts) > 1:
            points = [_plot_row(clip(row.prompt_id or "", 24), row) for row in prompts]
            say(console, f"Speedup by prompt, {labels[job.job_id]}")
            say_lines(console, interval_plot(points, width=min(width_of(console), 90)))
            say(console)


def _rated(rows: Iterable[Comparison]) -> list[Comparison]:
    return [row for row in rows if best_estimate(row) is not None]


def _plot_row(label: str, row: Comparison, note: str = "") -> PlotRow:
    return PlotRow(label=label, value=best_estimate(row) or 0.0, low=row.ci_low, high=row.ci_high, note=note)


# ---------------------------------------------------------------- the recommendation


def _codes(recommendation: Recommendation) -> set[str]:
    """The findings that are shown with it."""
    return {advice.code for advice in recommendation.against}


def _print_recommendation(
    recommendation: Recommendation,
    jobs: Sequence[Comparison],
    record: SweepRecord,
    console: Console,
    *,
    quiet: bool,
) -> None:
    for advice in recommendation.against:
        say(console, f"{advice.sign} {advice.sentence} {advice.remedy}", style="yellow")
    prefix = f"{recommendation.question}: " if recommendation.question else ""
    style = "bold green" if recommendation.kind == "run" else "bold yellow"
    say(console, f"{prefix}{recommendation.headline}", style=style)
    if recommendation.command:
        say(console, recommendation.command, indent=2, whole=True)
    if quiet:
        return
    by_category = (f"by category: {words}" for words in recommendation.by_category)
    rests_on = (f"rests on {recommendation.rests_on}",) if recommendation.rests_on else ()
    for line in (*recommendation.ties, *by_category, *recommendation.notes, *rests_on):
        say(console, f"- {line}", indent=2)
    job = recommendation.job
    if not record.single and job is not None and job.speedup is not None:
        value = best_estimate(job) or job.speedup
        _print_target(job, value, record, console, measured=jobs, reported=_codes(recommendation))
    say(console)


# ---------------------------------------------------------------- what went wrong


def _why_nothing(record: SweepRecord) -> str:
    """Why a sweep has no results; the errors of failed jobs follow on lines of their own."""
    states = Counter(job.state for job in record.jobs)
    failed, pending, rest = states["failed"], states["pending"], states["done"] + states["partial"]
    words = [f"{plural(failed, 'job')} failed"] if failed else []
    if pending:
        words.append(f"{plural(pending, 'job')} did not come to an end (velosweep resume with its folder goes on)")
    if rest:
        words.append(f"no samples of {plural(rest, 'job')} are left in its folder")
    return ", ".join(words) or "it has no jobs"


def _print_failures(record: SweepRecord, samples: pa.Table | None, console: Console) -> None:
    for job in record.jobs:
        if job.state in {"failed", "partial"}:
            label = f"job {job.num} (n_draft {job.n_draft})" if not record.single else "The job"
            what = "failed" if job.state == "failed" else "has failed runs"
            say(console, f"❌ {label} {what}: {job.error or 'see its samples and log'}", style="red")
    if samples is not None and samples.num_rows:
        counts = Counter(str(status) for status in samples["status"].to_pylist())
        bad = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()) if status != "ok")
        if bad:
            say(console, f"⚠️ Of {samples.num_rows} runs: {bad}; none of these is averaged", style="yellow")


def _print_findings(
    jobs: Sequence[Comparison],
    record: SweepRecord,
    reported: Collection[str],
    console: Console,
    *,
    verbose: bool,
    saved_to: str,
) -> None:
    """`reported`: codes of the findings shown with a recommendation; others of their kind are shown with -v only."""
    found = grouped_findings(jobs, job_labels(jobs), record)
    if not verbose:
        found = [(advice, where) for advice, where in found if len(where) > 1 or advice.code not in reported]
    shown = [entry for entry in found if verbose or (entry[0].rank < 2 and entry[0].code not in reported)]
    for advice, where in shown:
        at = f" [{', '.join(first_few(where, 4))}]" if len(jobs) > 1 else ""
        say(console, f"{advice.sign} {advice.sentence}{at} {advice.remedy}")
    if hidden := len(found) - len(shown):
        folder = saved_to.removesuffix("/report.html")
        command = f"velosweep report {shlex.quote(folder)} -v"
        say(console, f"{plural(hidden, 'further remark')} in report.html, or with: {command}", whole=True)
