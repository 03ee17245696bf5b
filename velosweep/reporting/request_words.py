"""What a job means for a whole request, in words: first token, time in all, from when on it pays, memory."""

from velosweep.statistics.comparison import Comparison
from velosweep.statistics.ranking import best_estimate
from velosweep.units import bytes_words, plural
from velosweep.values import Verdict

_AT_ONCE = 2  # tokens: not even one step later
_SAME_RATIO = 0.05  # two ratios that differ by less tell the same


def request_words(job: Comparison, *, brief: bool = False) -> str | None:
    """`First token 106 → 250 ms; whole answer of 64 tokens 3.1 → 2.4 s, 1.29×; pays from …`; None if not known.

    `brief`: in a line of a terminal, without lengths and the ratio.
    """
    times = job.request
    if times is None or job.vanilla is None or job.speculative is None:
        return None
    first = _both(job.vanilla.time_to_first_token_ms.mean, job.speculative.time_to_first_token_ms.mean)
    whole = _both(times.vanilla_ms, times.speculative_ms)
    whole = whole if brief else f"of {length_words(job)} {whole}, {times.total_ratio:.2f}×"
    parts = [f"First token {first}{',' if brief else ';'} whole answer {whole}", payback_words(job, brief=brief)]
    if job.depth_ms_vanilla is not None and job.depth_ms_speculative is not None:
        before = _both(job.depth_ms_vanilla, job.depth_ms_speculative)
        parts.append(f"the {plural(job.depth, 'token')} before it are read once a launch, in {before}")
    elif job.depth:
        parts.append(f"each run reads the {plural(job.depth, 'token')} before it again")
    return "; ".join(filter(None, parts)) + "."


def request_differs(job: Comparison) -> bool:
    """Whether whole requests tell another story than decoding: they gain less, or not from the first tokens on."""
    times, value = job.request, best_estimate(job)
    if times is None or value is None:
        return False
    before, after = job.depth_ms_vanilla, job.depth_ms_speculative
    return (
        times.breakeven_tokens is None
        or times.breakeven_tokens > _AT_ONCE
        or _lengths_differ(job)
        or (before is not None and after is not None and after > before * (1 + _SAME_RATIO))
        or abs(times.total_ratio / value - 1) > _SAME_RATIO
    )


def payback_words(job: Comparison, *, brief: bool = False) -> str:
    """From how many generated tokens on it pays; empty where it is not known whether it pays at all.

    `brief`: without the length of the prompt at which it does.
    """
    times = job.request
    if times is None:
        return ""
    length = ""
    if times.prompt_tokens and not brief:
        length = f" at this prompt length ({plural(round(times.prompt_tokens), 'token')})"
    if job.verdict is Verdict.SLOWER:
        return f"never pays{length}"
    if job.verdict is not Verdict.FASTER or times.breakeven_tokens is None:
        return ""
    if times.breakeven_tokens <= _AT_ONCE:
        return "pays from the first tokens on"
    return f"pays from {times.breakeven_tokens} tokens on{length}"


def memory_words(job: Comparison) -> str | None:
    """`memory 393 → 667 MiB: speculation takes 274 MiB more`; None where it is not known."""
    before, after = job.memory_bytes_vanilla, job.memory_bytes_speculative
    if before is None or after is None:
        return None
    more = after - before
    return f"memory {bytes_words(before)} → {bytes_words(after)}: speculation takes {bytes_words(abs(more))} " + (
        "more" if more >= 0 else "less"
    )


def _lengths_differ(job: Comparison) -> bool:
    """Whether vanilla and speculation wrote answers of other lengths, as they may where each ends by itself."""
    before, after = job.answer_tokens_vanilla, job.answer_tokens_speculative
    return before is not None and after is not None and round(before) != round(after)


def length_words(job: Comparison) -> str:
    """`64 tokens`, `41 → 38 tokens (means)`, `up to 64 tokens` of several streams, whose own lengths are not kept."""
    if _lengths_differ(job):
        return f"{job.answer_tokens_vanilla:.0f} → {job.answer_tokens_speculative:.0f} tokens (means)"
    limit = "up to " if job.settings.get("stop") == "natural" and job.answer_tokens_speculative is None else ""
    return f"{limit}{plural(round(job.answer_tokens_speculative or job.n_predict), 'token')}"


def _both(before_ms: float, after_ms: float) -> str:
    """`27.9 → 63.0 s`, `106 → 250 ms`."""
    if max(before_ms, after_ms) >= 1000:
        return f"{before_ms / 1000:.1f} → {after_ms / 1000:.1f} s"
    return f"{before_ms:.0f} → {after_ms:.0f} ms"
