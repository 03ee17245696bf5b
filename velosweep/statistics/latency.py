"""How long users wait: of several streams for the first token and from one to the next, at depth for the context."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from velosweep.statistics.columns import Columns

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
