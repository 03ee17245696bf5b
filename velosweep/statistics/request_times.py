"""A whole request: how fast its prompt is read, how long it takes in all, and from how many tokens speculation pays;
and how long users wait, of several streams for the first token and from one to the next, at depth for the context.

A request that generates N tokens takes F + (N - 1) * s, with F the time to its first token and s that of
decoding one. Speculation pays from the least N at which that is less than without it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from velosweep.statistics.columns import Columns
from velosweep.statistics.comparison import Finding, ModeStatistics, RequestTimes
from velosweep.statistics.intervals import NO_RATIO, Ratio
from velosweep.statistics.runs import Runs

SLOW_PREFILL = 0.9  # prompts that are read at less than this share of vanilla's speed are told of
NOTABLE_SHARE = 0.05  # of a request's time: a first token that is later by less is no warning


def request_logs(runs: Runs, vanilla: Any, speculative: Any) -> Mapping[str, Any]:
    """Log ratios of each pass, comparisons x passes, in which more is faster: `prefill` and `total`.

    `vanilla`, `speculative`: rows of pairs, comparisons x passes (x prompts). NaN where a time is not known.
    """
    tokens, prompt_ms, total_ms = (
        runs.columns.number(name) for name in ("prompt_tokens", "prompt_ms", "total_time_ms")
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {
            "prefill": np.log((tokens / prompt_ms)[speculative] / (tokens / prompt_ms)[vanilla]),
            "total": np.log(total_ms[vanilla] / total_ms[speculative]),
        }
    return {name: logs.mean(axis=2) if logs.ndim > 2 else logs for name, logs in found.items()}


def request_times(
    runs: Runs,
    ratios: Mapping[str, Ratio],
    vanilla: ModeStatistics | None,
    speculative: ModeStatistics | None,
    rows: tuple[Any, Any],
) -> RequestTimes | None:
    """Of one comparison by its ratios, both modes' means and rows; None where it has no ratio of whole requests."""
    total, prefill = ratios.get("total"), ratios.get("prefill", NO_RATIO)
    if vanilla is None or speculative is None or total is None or total.ratio is None:
        return None
    prompt_tokens = float(runs.columns.number("prompt_tokens")[rows[1]].mean())
    return RequestTimes(
        prompt_tokens=prompt_tokens if math.isfinite(prompt_tokens) else None,
        vanilla_ms=float(runs.columns.number("total_time_ms")[rows[0]].mean()),
        speculative_ms=float(runs.columns.number("total_time_ms")[rows[1]].mean()),
        prefill_ratio=prefill.ratio,
        prefill_low=prefill.interval.low if prefill.interval else None,
        prefill_high=prefill.interval.high if prefill.interval else None,
        total_ratio=total.ratio,
        total_low=total.interval.low if total.interval else None,
        total_high=total.interval.high if total.interval else None,
        breakeven_tokens=breakeven_tokens(vanilla, speculative),
    )


def breakeven_tokens(vanilla: ModeStatistics, speculative: ModeStatistics) -> int | None:
    """From how many generated tokens on a speculative request is the shorter one, by the means; None for never."""
    later_ms = speculative.time_to_first_token_ms.mean - vanilla.time_to_first_token_ms.mean
    gained_ms = 1000 / vanilla.tokens_per_second.mean - 1000 / speculative.tokens_per_second.mean
    if gained_ms <= 0:
        return None
    return 1 if later_ms <= 0 else 2 + math.floor(later_ms / gained_ms)


def prefill_findings(
    times: RequestTimes | None, vanilla: ModeStatistics | None, speculative: ModeStatistics | None
) -> list[Finding]:
    """Prompts that are surely read more slowly: a warning where that shows in a request's time."""
    if times is None or vanilla is None or speculative is None or times.prefill_ratio is None:
        return []
    if times.prefill_high is None or times.prefill_high >= 1 or times.prefill_ratio >= SLOW_PREFILL:
        return []
    before, after = (mode.time_to_first_token_ms.mean for mode in (vanilla, speculative))
    notable = after - before > NOTABLE_SHARE * times.vanilla_ms
    evidence = {"ratio": times.prefill_ratio, "slower": 1 / times.prefill_ratio, "vanilla_s": before / 1000}
    evidence |= {"speculative_s": after / 1000}
    severity = "warning" if notable else "info"
    return [Finding(code="slow_prefill", severity=severity, subject="prompts", evidence=evidence)]


PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """Percentiles in ms: of the first token over all requests, of later ones the median over runs of each run's."""

    first_token_p50_ms: float
    first_token_p95_ms: float
    first_token_p99_ms: float
    between_tokens_p50_ms: float
    between_tokens_p95_ms: float
    between_tokens_p99_ms: float


def mean_of(columns: Columns, name: str, rows: Any) -> float | None:
    """The mean of a figure of these runs; None unless each has it."""
    if not columns.has(name) or not len(rows):
        return None
    values = columns.number(name)[rows]
    return float(values.mean()) if np.isfinite(values).all() else None


def answer_tokens(columns: Columns, rows: Any) -> float | None:
    """The mean length of these runs' answers; None of several streams, whose tokens are those of a time."""
    several = (columns.integer("concurrency", 1)[rows] > 1).any()
    return None if several else mean_of(columns, "predicted_tokens", rows)


def latency_of(columns: Columns, rows: Any) -> Latency | None:
    """Of these runs; None unless each had several streams."""
    firsts = columns.lists("stream_first_token_ms")
    if firsts is None or not len(rows):
        return None
    offsets, values = firsts
    first = np.concatenate([values[offsets[row] : offsets[row + 1]] for row in rows.tolist()])
    between = {f"between_tokens_p{p}_ms": columns.number(f"between_tokens_p{p}_ms")[rows] for p in PERCENTILES}
    if not len(first) or not all(np.isfinite(figures).all() for figures in between.values()):
        return None
    return Latency(
        **{f"first_token_p{p}_ms": float(np.percentile(first, p)) for p in PERCENTILES},
        **{name: float(np.median(figures)) for name, figures in between.items()},
    )
