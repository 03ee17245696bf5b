"""When a lane has measured enough: sequential stopping, asked between runs.

Stopping as soon as a 95 % interval looks narrow covers only 88 to 92 %. With a look every second pair from the
sixth on, and t at 97 % both to stop and to report, the worst coverage found by simulation is 95.2 %: that interval is
reported as 95 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from velosweep.config.settings import Adaptive
from velosweep.statistics.intervals import paired_interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Whether to stop. `half_width`: relative half-width reached (the x of "±x"), None while undefined."""

    stop: bool
    converged: bool
    half_width: float | None


def decide(vanilla: Sequence[float], speculative: Sequence[float], adaptive: Adaptive) -> Decision:
    """Judge the pairs so far: `vanilla[i]` and `speculative[i]` are the tokens per second of one pair (or pass).

    Stops converged at a look (`min_pairs`, then every `look_every`) whose half-width is at most `target`; stops
    not converged at `max_pairs`. Raises SampleError for NaN or negative values.
    """
    pairs = len(vanilla)
    interval = paired_interval(vanilla, speculative, confidence=adaptive.confidence)
    half_width = None if interval is None else interval.half_width
    looks = pairs >= adaptive.min_pairs and (pairs - adaptive.min_pairs) % adaptive.look_every == 0
    last = pairs >= adaptive.max_pairs
    converged = half_width is not None and half_width <= adaptive.target and (looks or last)
    return Decision(stop=converged or last, converged=converged, half_width=half_width)
