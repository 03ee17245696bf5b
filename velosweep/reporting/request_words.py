"""What a job means for a whole request, in words: its first token, its time in all, from when on it pays, its memory."""

from __future__ import annotations

from velosweep.reporting.wording import interval
from velosweep.statistics.comparison import Comparison
from velosweep.units import bytes_words, plural
from velosweep.values import Verdict


def request_words(job: Comparison) -> str | None:
    """`First token 106 → 250 ms, whole request 3.1 → 2.4 s: 1.29× [1.20, 1.38]; pays from …`; None if not known."""
    times = job.request
    if times is None or job.vanilla is None or job.speculative is None:
        return None
    first = _both(job.vanilla.time_to_first_token_ms.mean, job.speculative.time_to_first_token_ms.mean)
    limits = interval(times.total_low, times.total_high)
    total = f"{_both(times.vanilla_ms, times.speculative_ms)}: {times.total_ratio:.2f}×{' ' if limits else ''}{limits}"
    pays = payback_words(job)
    return f"first token {first}, whole request of {plural(job.n_predict, 'token')} {total}{'; ' if pays else ''}{pays}"


def payback_words(job: Comparison) -> str:
    """From how many generated tokens on it pays; empty where it is not known whether it pays at all."""
    times = job.request
    if times is None:
        return ""
    length = f" at this prompt length ({plural(round(times.prompt_tokens), 'token')})" if times.prompt_tokens else ""
    if job.verdict is Verdict.SLOWER:
        return f"it never pays{length}"
    if job.verdict is not Verdict.FASTER or times.breakeven_tokens is None:
        return ""
    if times.breakeven_tokens <= 2:
        return "it pays from the first tokens on"
    return f"it pays from {times.breakeven_tokens} generated tokens on{length}"


def memory_words(job: Comparison) -> str | None:
    """`memory 393 → 667 MiB: speculation takes 274 MiB more`; None where it is not known."""
    before, after = job.memory_bytes_vanilla, job.memory_bytes_speculative
    if before is None or after is None:
        return None
    more = after - before
    return f"memory {bytes_words(before)} → {bytes_words(after)}: speculation takes {bytes_words(abs(more))} " + (
        "more" if more >= 0 else "less"
    )


def _both(before_ms: float, after_ms: float) -> str:
    """`27.9 → 63.0 s`, `106 → 250 ms`."""
    if max(before_ms, after_ms) >= 1000:
        return f"{before_ms / 1000:.1f} → {after_ms / 1000:.1f} s"
    return f"{before_ms:.0f} → {after_ms:.0f} ms"
