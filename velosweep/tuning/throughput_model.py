"""What a few calibration runs foretell for every draft length: tau(gamma) over T(gamma).

tau(gamma) = 1 + sum of the survivals S_i up to gamma, where S_i is the share of rounds that accepted draft position i
(pooled over all runs that drafted that far). T(gamma) is the time of a round, interpolated between the calibrated
lengths. Where the longest costs far more than the line through the shorter ones says, a kernel boundary lies between
(llama.cpp's CUDA back end changes kernels above a batch of 8, n_draft 7): one more run just below it tells on which
side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from velosweep.tuning.best_arm_values import Observation

CALIBRATION_LENGTHS = (1, 4, 16)
BELOW_BOUNDARY = 7  # n_draft whose batch, 8, is the last before the boundary
_CLIFF = 0.08


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """What runs of one draft length told: how many rounds, the time of one, and acceptances by position."""

    n_draft: int
    rounds: float
    round_ms: float
    accepted_per_position: tuple[float, ...] | None


def gathered(n_draft: int, observations: Sequence[Observation]) -> Calibration | None:
    """All runs of one draft length together; None where none of them tells its rounds."""
    seen = [o for o in observations if o.rounds and o.round_ms]
    rounds = sum(o.rounds or 0.0 for o in seen)
    if rounds <= 0:
        return None
    counts = [o.accepted_per_position for o in seen if o.accepted_per_position]
    width = max((len(c) for c in counts), default=0)
    total = tuple(sum(c[i] for c in counts if i < len(c)) for i in range(width))
    return Calibration(
        n_draft=n_draft,
        rounds=rounds,
        round_ms=sum((o.round_ms or 0.0) * (o.rounds or 0.0) for o in seen) / rounds,
        accepted_per_position=total if len(counts) == len(seen) else None,
    )


def calibration_lengths(available: Sequence[int]) -> tuple[int, ...]:
    """The available lengths nearest to 1, 4 and 16 (no calibration pays for three or fewer)."""
    lengths = sorted(set(available))
    if len(lengths) <= len(CALIBRATION_LENGTHS):
        return ()
    nearest = [min(lengths, key=lambda n: (abs(n - wanted), n)) for wanted in CALIBRATION_LENGTHS]
    # Survival is needed as far as candidates reach.
    return tuple(sorted({*nearest, *([lengths[-1]] if lengths[-1] < CALIBRATION_LENGTHS[-1] else [])}))


def further_length(available: Sequence[int], runs: Sequence[Calibration]) -> int | None:
    """One more length to calibrate where the longest is dearer than the shorter ones foretell; None if not."""
    below = [n for n in available if n <= BELOW_BOUNDARY]
    known = {run.n_draft for run in runs}
    if not below or max(below) in known or not _has_cliff(runs):
        return None
    return max(below) if max(below) > sorted(known)[-2] else None


def _has_cliff(runs: Sequence[Calibration]) -> bool:
    """Whether the longest run's round costs more than the line through the two before it, by a margin."""
    times = sorted((run.n_draft, run.round_ms) for run in runs)
    if len(times) < 3:
        return False
    (a, ta), (b, tb), (c, tc) = times[-3:]
    slope = max(0.0, (tb - ta) / (b - a))
    return tc > (tb + slope * (c - b)) * (1 + _CLIFF)


def predict(available: Sequence[int], runs: Sequence[Calibration]) -> Mapping[int, float] | None:
    """Tokens per second by draft length; None where no run tells acceptance by position.

    Lengths beyond what any run drafted are foretold with the last survival known.
    """
    survival = _survival(runs)
    if survival is None or not runs:
        return None
    predictions = {}
    for n in available:
        reached = [survival[min(i, len(survival) - 1)] for i in range(n)]
        predictions[n] = 1000 * (1 + sum(reached)) / _round_ms(n, runs)
    return predictions


def _survival(runs: Sequence[Calibration]) -> list[float] | None:
    """S_i pooled over the runs that drafted at least i."""
    if any(not run.accepted_per_position for run in runs):
        return None
    longest = max((run.n_draft for run in runs), default=0)
    result = []
    for i in range(longest):
        reaching = [run for run in runs if run.n_draft > i]
        result.append(sum(_at(run, i) for run in reaching) / sum(run.rounds for run in reaching))
    return result


def _at(run: Calibration, position: int) -> float:
    counts = run.accepted_per_position or ()
    return counts[position] if position < len(counts) else 0.0


def _round_ms(n: int, runs: Sequence[Calibration]) -> float:
    """A round's time at length n: linear between calibrated lengths, with a step after BELOW_BOUNDARY if one shows."""
    times = sorted((run.n_draft, run.round_ms) for run in runs)
    if len(times) == 1:
        return times[0][1]
    *lower, (longest, longest_ms) = times
    stepped = len(lower) >= 2 and lower[-1][0] == BELOW_BOUNDARY and _has_cliff(runs)
    if stepped and n > BELOW_BOUNDARY:
        (a, ta), (b, tb) = lower[0], lower[-1]
        slope = max(0.0, (tb - ta) / (b - a))
        return max(longest_ms - slope * (longest - n), tb)
    return _interpolated(n, times)


def _interpolated(n: int, times: Sequence[tuple[int, float]]) -> float:
    """Linear between neighbours, and along the outermost pair beyond them (never below the nearest time's half)."""
    right = next((i for i, (length, _) in enumerate(times) if length >= n), len(times) - 1)
    right = max(right, 1)
    (a, ta), (b, tb) = times[right - 1], times[right]
    return max(ta + (tb - ta) * (n - a) / (b - a), 0.5 * min(ta, tb))
