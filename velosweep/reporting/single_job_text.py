"""A single job's results on the screen, in the specification's words and layout."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from velosweep.records import SweepRecord
from velosweep.reporting.console import say, say_lines
from velosweep.reporting.speedup_hints import hint_heading, reasons_for_modest_speedup
from velosweep.reporting.wording import interval_words, number, percent, plus_minus, target_of, without_speedup
from velosweep.statistics.comparison import Comparison
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
        _print_target(job, job.speedup, reasons_for_modest_speedup(job), record, console)
    say(console)


def _print_target(
    job: Comparison, value: float, reasons: Sequence[str], record: SweepRecord, console: "Console"
) -> None:
    """Whether the job reached its target, and what may help; no `reasons` where the findings above say everything."""
    target = target_of(record, job.job_id)
    if value <= target or job.verdict is Verdict.INVALID:
        also = "" if reasons else " a quieter machine, as said above"
        say(console, f"{hint_heading(job)}{also}", style="yellow")
        for reason in reasons:
            say(console, f"- {reason}", indent=3)
    elif job.verdict is not Verdict.FASTER:
        why = "see the interval" if job.ci_low is not None else "one pair of runs has no interval"
        say(console, f"⚠️ Above the target speedup (>{target:g}x), but not surely: {why}", style="yellow")
    else:
        say(console, f"✅ Speculative decoding achieved target speedup (>{target:g}x)!", style="green")
