"""What a person reads after a sweep, in the specification's words and layout; the answer."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from velosweep.records import SweepRecord
from velosweep.reporting.advice import Advice, gathered, reasons_for_modest_speedup, severity_rank
from velosweep.reporting.answer import Answer, CommandFlags, answers
from velosweep.reporting.results_table import job_columns, reasons_of_failed, with_failed
from velosweep.reporting.safe import clip
from velosweep.reporting.screen import NORMAL, QUIET, VERBOSE, say, say_all, table_lines, width_of
from velosweep.reporting.search_words import print_search
from velosweep.reporting.textplot import Point, interval_plot
from velosweep.reporting.wording import (
    by_prompt,
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
from velosweep.statistics.comparison import Comparison, ModeStatistics
from velosweep.statistics.ranking import best_estimate
from velosweep.units import plural
from velosweep.values import Verdict

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console


def print_outcome(
    comparisons: Iterable[Comparison],
    record: SweepRecord,
    samples: pa.Table | None = None,
    *,
    saved_to: str | None,
    console: Console,
    verbosity: int = NORMAL,
    command_flags: CommandFlags | None = None,
) -> None:
    """Results of a job as the specification shows them, or a sweep's table and plot; the answer; where it was saved."""
    rows = list(comparisons)
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
    answered = answers(rows, record, command_flags=command_flags)
    for answer in answered:
        _print_answer(answer, jobs, record, console, quiet=verbosity <= QUIET)
    if not jobs:
        what = "No job came to a result" if samples is not None and samples.num_rows else "Nothing was measured"
        say(console, f"{what}: {_why_nothing(record)}", style="bold yellow")
    _print_failures(record, samples, console)
    if verbosity > QUIET:
        said = {advice.code for answer in answered for advice in answer.against}
        _print_findings(jobs, record, said, console, verbose=verbosity >= VERBOSE, saved_to=saved_to)
    if saved_to:
        if verbosity > QUIET and not saved_to.endswith(".html"):
            say(console, f"📈 Report: {saved_to}/report.html", whole=True)
        say(console, f"💾 Results saved to: {saved_to}", whole=True)


def _print_single(job: Comparison, record: SweepRecord, console: Console) -> None:
    say(console)
    say(console, "=== Benchmark Results ===", style="bold")
    for name, stats in (("Vanilla", job.vanilla), ("Speculative", job.speculative)):
        if stats is not None:
            say(console)
            say(console, f"{name} Results:")
            say_all(console, _mode_lines(stats))
    say(console)
    say(console, "=== Performance Comparison ===", style="bold")
    _print_comparison(job, record, console)


def _mode_lines(stats: ModeStatistics) -> list[str]:
    rate = stats.tokens_per_second
    return [
        f"  Tokens/s:     {plus_minus(rate)} tok/s (min: {number(rate.min)}, max: {number(rate.max)})",
        f"  TTFT:         {plus_minus(stats.time_to_first_token_ms)} ms",
        f"  Total time:   {plus_minus(stats.total_time_ms)} ms",
    ]


def _print_comparison(job: Comparison, record: SweepRecord, console: Console) -> None:
    if job.speedup is None:
        say(console, f"No speedup: {without_speedup(job, record)}")
    else:
        spread = "" if job.speedup_stddev is None else f" ± {job.speedup_stddev:.2f}x"
        say(console, f"📊 Speedup: {job.speedup:.2f}x{spread}", style="bold")
    if job.ci_low is not None:
        what = f"Mean ratio {number(job.speedup_gm)}×, 95 % interval {interval(job.ci_low, job.ci_high)}"
        say(console, f"{what} ({job.ci_method}, {plural(job.n_pairs, 'pair')})", indent=3)
    if job.acceptance is not None:
        say(console, acceptance_words(job), indent=3)
    if job.speedup is not None:
        _print_target(job, job.speedup, target_of(record, job.job_id), console)
    say(console)


def acceptance_words(job: Comparison) -> str:
    """`Acceptance 42 % [38, 45], 4.4 tokens a round; draft step costs 0.08 of a main step; expected 2.41×`."""
    seen = job.acceptance
    if seen is None:
        return ""
    text = f"Acceptance {percent(seen.rate)}"
    if seen.low is not None and seen.high is not None:
        text += f" [{100 * seen.low:.0f}, {100 * seen.high:.0f}]"
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
    target: float,
    console: Console,
    *,
    measured: Sequence[Comparison] = (),
    said: Collection[str] = (),
) -> None:
    """`said`: codes of the findings that are told above."""
    if value >= target and job.verdict is not Verdict.INVALID:
        if job.ci_low is not None and job.verdict is not Verdict.FASTER:
            say(console, f"⚠️ Above the target speedup (>{target:g}x), but not surely: see the interval", style="yellow")
        else:
            say(console, f"✅ Speculative decoding achieved target speedup (>{target:g}x)!", style="green")
        return
    reasons = reasons_for_modest_speedup(job, measured, said=said)
    also = "" if reasons else " a quieter machine, as said above"
    say(console, f"⚠️ Modest speedup. Consider:{also}", style="yellow")
    for reason in reasons:
        say(console, f"- {reason}", indent=3)


def _print_sweep(jobs: Sequence[Comparison], record: SweepRecord, console: Console, *, plot: bool) -> None:
    width = width_of(console)
    say(console)
    say(console, "=== Benchmark Results ===", style="bold")
    say(console)
    lines = table_lines(job_columns(jobs, width=width, failed=reasons_of_failed(record)), width=width)
    say_all(console, lines)
    if "expected" in lines[0]:
        say(console, "expected: what acceptance and the draft's cost promise, were checking drafts free", style="dim")
    for name, members in series_of(jobs).items() if plot else ():
        points = _points(members)
        if len(points) > 2:  # of two the table says as much
            say(console)
            say(console, f"Speedup over n_draft{', ' + name if name else ''} (bar: 95 % interval)")
            say_all(console, interval_plot(points, width=min(width, 90)))
    say(console)


def _points(members: Iterable[Comparison]) -> list[Point]:
    signs = {Verdict.FASTER: "", Verdict.SLOWER: " slower", Verdict.NO_RELIABLE_GAIN: " ?", Verdict.INVALID: " invalid"}
    return [
        Point(label=str(job.n_draft), value=value, low=job.ci_low, high=job.ci_high, note=signs.get(job.verdict, " ?"))
        for job in members
        if (value := best_estimate(job)) is not None
    ]


def _print_prompts(jobs: Sequence[Comparison], rows: Sequence[Comparison], console: Console) -> None:
    labels = job_labels(jobs)
    for job in jobs:
        prompts = by_prompt(rows, job.job_id)
        points = [
            Point(label=clip(row.prompt_id or "", 24), value=value, low=row.ci_low, high=row.ci_high)
            for row in prompts
            if (value := best_estimate(row)) is not None
        ]
        if len(points) > 1:
            say(console, f"Speedup by prompt, {labels[job.job_id]}")
            say_all(console, interval_plot(points, width=min(width_of(console), 90)))
            say(console)


def _print_answer(
    answer: Answer, jobs: Sequence[Comparison], record: SweepRecord, console: Console, *, quiet: bool
) -> None:
    for advice in answer.against:
        say(console, f"{advice.sign} {advice.sentence} {advice.remedy}", style="yellow")
    prefix = f"{answer.question}: " if answer.question else ""
    say(console, f"{prefix}{answer.headline}", style="bold green" if answer.kind == "run" else "bold yellow")
    if answer.command:
        say(console, answer.command, indent=2, whole=True)
    if quiet:
        return
    by_category = (f"by category: {words}" for words in answer.by_category)
    rests_on = (f"rests on {answer.rests_on}",) if answer.rests_on else ()
    for line in (*answer.ties, *by_category, *answer.notes, *rests_on):
        say(console, f"- {line}", indent=2)
    if not record.single and answer.job is not None and answer.job.speedup is not None:
        value = best_estimate(answer.job) or answer.job.speedup
        said = {advice.code for advice in answer.against}
        _print_target(answer.job, value, target_of(record, answer.job.job_id), console, measured=jobs, said=said)
    say(console)


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
        counts = _status_counts(samples)
        bad = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()) if status != "ok")
        if bad:
            say(console, f"⚠️ Of {samples.num_rows} runs: {bad}; none of these is averaged", style="yellow")


def _status_counts(samples: pa.Table) -> dict[str, int]:
    return dict(Counter(str(status) for status in samples["status"].to_pylist()))


def _print_findings(
    jobs: Sequence[Comparison],
    record: SweepRecord,
    said: Collection[str],
    console: Console,
    *,
    verbose: bool,
    saved_to: str | None,
) -> None:
    """`said`: the codes of the findings that stand with an answer already; others' of the kind are for -v."""
    found = gathered(jobs, job_labels(jobs), record)
    if not verbose:
        found = [entry for entry in found if len(entry[1]) > 1 or entry[0].code not in said]
    shown = [
        entry for entry in found if verbose or (severity_rank(entry[0].severity) < 2 and entry[0].code not in said)
    ]
    for advice, where in shown:
        _print_finding(advice, where if len(jobs) > 1 else [], console)
    hidden = len(found) - len(shown)
    if hidden:
        folder = (saved_to or "DIR").removesuffix("/report.html")
        command = f"velosweep report {shlex.quote(folder)} -v"
        say(console, f"{plural(hidden, 'further remark')} in report.html, or with: {command}", whole=True)


def _print_finding(advice: Advice, where: Sequence[str], console: Console) -> None:
    shown = [*where[:4], *([f"{len(where) - 4} more"] if len(where) > 4 else [])]
    at = f" [{', '.join(shown)}]" if where else ""
    say(console, f"{advice.sign} {advice.sentence}{at} {advice.remedy}")
